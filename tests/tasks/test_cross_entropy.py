"""Tests the cross-entropy of large vocabularies against PyTorch's own, its gradients and its memory.

Shapes: N tokens, V vocabulary, D hidden.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.measure.memory import MIB, peak_mib
from nas.tasks.cross_entropy import LARGE, mean_cross_entropy, summed_cross_entropy

IGNORED = -100
SIZES = {"large, odd": (701, 1501), "one row a chunk": (4, 300_001), "small": (90, 65)}


def drawn(tokens: int, vocabulary: int) -> tuple[nn.Linear, Tensor, Tensor]:
    """Returns an output layer, what it reads, and targets of which every seventh is ignored."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(24, vocabulary, bias=False)
    layer.weight.data = torch.randn(vocabulary, 24, generator=generator)
    x_ND = torch.randn(tokens, 24, generator=generator, requires_grad=True)
    targets_N = torch.randint(vocabulary, (tokens,), generator=generator)
    targets_N[::7] = IGNORED
    return layer, x_ND, targets_N


@pytest.mark.parametrize("size", SIZES)
def test_value_and_gradients_are_those_of_pytorch(size: str) -> None:
    layer, x_ND, targets_N = drawn(*SIZES[size])
    plain = F.cross_entropy(layer(x_ND), targets_N, ignore_index=IGNORED)
    expected = torch.autograd.grad(3 * plain, (x_ND, layer.weight))
    ours = mean_cross_entropy(layer(x_ND), targets_N, IGNORED)
    found = torch.autograd.grad(3 * ours, (x_ND, layer.weight))
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=0)
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("size", SIZES)
def test_the_sum_is_that_of_pytorch_and_leaves_the_logits_alone(size: str) -> None:
    layer, x_ND, targets_N = drawn(*SIZES[size])
    logits_NV = layer(x_ND).detach()
    before = logits_NV.clone()
    expected = F.cross_entropy(logits_NV, targets_N, ignore_index=IGNORED, reduction="sum")
    torch.testing.assert_close(summed_cross_entropy(logits_NV, targets_N, IGNORED), expected, rtol=1e-6, atol=0)
    mean_cross_entropy(logits_NV, targets_N, IGNORED)
    assert torch.equal(logits_NV, before)


def test_extreme_logits_stay_finite() -> None:
    logits_NV = torch.zeros(2, LARGE)
    logits_NV[:, 3] = 1e30
    logits_NV.requires_grad_()
    loss = mean_cross_entropy(logits_NV * 1, torch.tensor([3, 3]), IGNORED)
    (gradient,) = torch.autograd.grad(loss, logits_NV)
    assert loss == 0
    assert not gradient.any()


def test_a_step_holds_the_logits_once() -> None:
    layer, x_ND, targets_N = drawn(701, 1501)
    size = 701 * 1501 * 4 / MIB

    def step() -> None:
        torch.autograd.backward(mean_cross_entropy(layer(x_ND), targets_N, IGNORED))

    step()  # gradients exist from now on
    rest = peak_mib(lambda: layer(x_ND[:1]), layer)
    assert size < peak_mib(step, layer) - rest < 1.8 * size  # chunks take the rest


def test_logits_that_their_own_operator_needs_are_refused() -> None:
    layer, x_ND, targets_N = drawn(701, 1501)
    loss = mean_cross_entropy(layer(x_ND).tanh(), targets_N, IGNORED)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.backward(loss)
