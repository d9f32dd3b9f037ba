"""The additive kind: its blocks of queries, the memory that they save, its start, and large values."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nas.attention import additive, build
from nas.kinds import Additive
from tests.attention.test_attention_contract import HIDDEN, assert_same, counted_flops, definition, in_pieces, layer_of


@pytest.fixture
def _small_blocks(monkeypatch):
    monkeypatch.setattr(additive, "BLOCK_VALUES", 2_000)  # 4 queries of 13 keys and 32 values


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("causal", [True, False])
def test_blocks_of_queries_equal_the_definition(causal):
    layer = layer_of(Additive(), causal)
    x, padding = torch.randn(1, 13, HIDDEN, requires_grad=True), torch.zeros(1, 13, dtype=torch.bool)
    padding[0, 3] = padding[0, 9:] = True
    assert_same(layer, layer(x), definition(layer, x), x)
    keep = ~padding[..., None]
    assert_same(layer, layer(x, padding_BT=padding) * keep, definition(layer, x, padding=padding) * keep, x)
    assert layer.flops(13) == counted_flops(lambda: layer(x))
    torch.testing.assert_close(layer.weights(x).sum(-1), torch.ones(1, 4, 13))


@pytest.mark.usefixtures("_small_blocks")
def test_blocks_of_queries_equal_the_definition_on_a_memory():
    layer = layer_of(Additive(), causal=False, position="none")
    x, memory = torch.randn(2, 13, HIDDEN, requires_grad=True), torch.randn(2, 9, HIDDEN, requires_grad=True)
    assert_same(layer, layer(x, memory), definition(layer, x, memory), x, memory)
    assert layer.weights(x, memory).shape == (2, 4, 13, 9)


@pytest.mark.usefixtures("_small_blocks")
def test_a_prompt_in_blocks_equals_the_full_pass():
    layer = layer_of(Additive())
    x = torch.randn(2, 29, HIDDEN)
    torch.testing.assert_close(in_pieces(layer, x, [9, 1, 19]), layer(x), atol=1e-5, rtol=1e-4)


class Largest(TorchDispatchMode):
    """Of all tensors that were made: the number of values."""

    values = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.values = max(self.values, tensor.untyped_storage().nbytes() // tensor.element_size())
        return made


@pytest.mark.parametrize("causal", [True, False])
def test_no_tensor_is_larger_than_a_block_in_training(causal, monkeypatch):
    monkeypatch.setattr(additive, "BLOCK_VALUES", 2**16)
    T = 256
    layer = build(Additive(), HIDDEN, T, causal)
    with Largest() as largest:
        layer(torch.randn(1, T, HIDDEN)).sum().backward()
    assert T * HIDDEN < largest.values <= 2**16 < T * T * HIDDEN


@pytest.mark.parametrize("head_size", [4, 32])
def test_scores_start_with_a_variance_of_about_1(head_size):
    torch.manual_seed(0)
    a = build(Additive(heads=64, head_size=head_size), HIDDEN, 8).score_HE
    q, k = torch.randn(2, 300, 64, head_size)
    assert (torch.tanh(q + k) * a).sum(-1).var().item() == pytest.approx(1, rel=0.25)


@pytest.mark.parametrize("size", [10, 1e4])
def test_is_finite_where_tanh_is_flat(size):
    torch.manual_seed(0)
    layer = layer_of(Additive())
    x = (size * torch.randn(2, 20, HIDDEN)).requires_grad_()
    q_BTHE, *_ = layer._project_turned(x)
    assert q_BTHE.abs().max() > additive.LARGEST
    y = layer(x)
    gradients = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
    assert all(tensor.isfinite().all() for tensor in (y, *gradients))
