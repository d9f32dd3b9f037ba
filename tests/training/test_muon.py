"""Muon equals its definition, and takes stacked matrices, or each head's part of them, by themselves."""

import math

import pytest
import torch
from torch import Tensor, nn

from nas import attention
from nas.architecture import Architecture
from nas.attention.stacked import Stacked
from nas.training.muon import Muon, blocks_of
from nas.training.orthogonalisation import newton_schulz

MOMENTUM = 0.95


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def linear(layer: nn.Linear) -> nn.Linear:
    """The layer with weights and a gradient of its own."""
    draws = generator()
    nn.init.normal_(layer.weight, generator=draws)
    layer.weight.grad = torch.randn(layer.weight.shape, generator=draws)
    return layer


def stepped(parts: list[Tensor], gradients: list[Tensor], scale: float = 1.0) -> list[Tensor]:
    """Takes the first step of Muon on each part, at a rate of .1."""
    updates = [newton_schulz((1 + MOMENTUM) * gradient[None])[0] for gradient in gradients]
    return [part - 0.1 * scale * update for part, update in zip(parts, updates, strict=True)]


def test_muon_equals_the_definition_one_matrix_at_a_time() -> None:
    draws = generator()
    layers = [nn.Linear(n, m, bias=False) for m, n in [(8, 24), (8, 24), (24, 8)]]
    expected = [layer.weight.detach().clone() for layer in layers]
    momenta = [torch.zeros_like(matrix) for matrix in expected]
    muon = Muon([each for layer in layers for each in blocks_of(layer, per_head=True)], 0.1, 0.5, newton_schulz)
    for share in (1.0, 0.5):
        for i, layer in enumerate(layers):
            gradient = torch.randn(layer.weight.shape, generator=draws)
            layer.weight.grad = gradient.clone()
            momenta[i] = MOMENTUM * momenta[i] + gradient
            step = newton_schulz((gradient + MOMENTUM * momenta[i])[None])[0]
            factor = math.sqrt(3) if layer.out_features == 24 else 1
            expected[i] = (1 - 0.1 * share * 0.5) * expected[i] - 0.1 * share * factor * step
        muon.step(share)
    torch.testing.assert_close([layer.weight.detach() for layer in layers], expected)


@pytest.mark.parametrize(("per_head", "heights"), [(False, (16, 8, 16)), (True, (4,) * 10)])
def test_each_matrix_that_a_weight_stacks_or_each_head_is_taken_by_itself(per_head, heights) -> None:
    layer = linear(Stacked(16, (16, 8, 16)))
    layer.head_rows = 4
    expected = stepped(list(layer.weight.detach().split(heights)), list(layer.weight.grad.split(heights)))
    Muon(blocks_of(layer, per_head), 0.1, 0.0, newton_schulz).step(1.0)
    torch.testing.assert_close(layer.weight.detach(), torch.cat(expected))


def test_blocks_cover_every_weight_of_attention_once() -> None:
    spec = Architecture.model_validate(
        {"hidden": 16, "blocks": [{"attention": {"kind": "softmax", "heads": 4, "kv_heads": 2}}]}
    )
    layer = attention.build(spec.blocks[0].attention, 16, 8)
    for part, count in ((layer.qkv, 8), (layer.out, 1)):
        blocks = blocks_of(part, per_head=True)
        assert sum(len(each.values_BMN()) for each in blocks) == count
        with torch.no_grad():
            part.weight.zero_()
            for each in blocks:
                each.values_BMN().add_(1)
        assert (part.weight == 1).all()


def test_a_weight_without_a_gradient_counts_as_one_of_zeros() -> None:
    layer = nn.Linear(4, 4, bias=False)
    before = layer.weight.detach().clone()
    Muon(blocks_of(layer, per_head=False), 0.1, 0.0, newton_schulz).step(1.0)
    assert torch.equal(layer.weight, before)


def test_matrices_take_turns_at_twice_the_rate() -> None:
    """Of three equal layers, the first and third step first, then the second; heads step each time."""
    draws = generator()
    layers = [nn.Linear(8, 16, bias=False) for _ in range(3)] + [Stacked(8, (8,))]
    layers[3].head_rows = 4
    before = [layer.weight.detach().clone() for layer in layers]
    muon = Muon(
        [each for layer in layers for each in blocks_of(layer, per_head=True)], 0.1, 0.5, newton_schulz, turns=2
    )
    gradients = [torch.randn(2, *layer.weight.shape, generator=draws) for layer in layers]
    for step in range(2):
        last = [layer.weight.detach().clone() for layer in layers]
        for layer, gradient in zip(layers, gradients, strict=True):
            layer.weight.grad = gradient[step].clone()
        muon.step(1.0, step)
        moved = [not torch.equal(layer.weight, old) for layer, old in zip(layers, last, strict=True)]
        assert moved == [[True, False, True, True], [False, True, False, True]][step]
    first, second = gradients[1]
    momentum = MOMENTUM * first + second
    update = newton_schulz((second + MOMENTUM * momentum)[None])[0]
    expected = (1 - 0.2 * 0.5) * before[1] - 0.2 * math.sqrt(2) * update
    torch.testing.assert_close(layers[1].weight.detach(), expected)
