"""Kinds with a decaying state where decays are extreme, and tokens are ignored across chunks."""

import pytest
import torch

from nas.kinds import GatedLinear, Kind, Retention
from tests.attention.test_attention_contract import HIDDEN, assert_same, definition, layer_of, named


@pytest.mark.parametrize("spec", [Retention(), GatedLinear()], ids=named)
def test_tokens_ignored_anywhere_in_several_chunks(spec: Kind):
    layer = layer_of(spec)
    x = torch.randn(2, 75, HIDDEN, requires_grad=True)
    padding = torch.rand(2, 75) < 0.3
    padding[0, :40] = padding[1, 33:66] = True
    keep = ~padding[..., None]
    assert_same(layer, layer(x, padding_BT=padding) * keep, definition(layer, x, padding=padding) * keep, x)


@pytest.mark.parametrize("bias", [-40.0, -10.0, 10.0])
def test_gates_of_any_openness_equal_the_definition(bias: float):
    layer = layer_of(GatedLinear())
    with torch.no_grad():
        layer.forget_out.bias.fill_(bias)
    x = torch.randn(1, 75, HIDDEN, requires_grad=True)
    assert layer.forget_out(layer.forget_in(x)).std() > 2  # some are clamped, and some are not
    assert_same(layer, layer(x), definition(layer, x), x)


@pytest.mark.parametrize("bias", [-1e4, 1e4])
@pytest.mark.parametrize("spec", [Retention(), GatedLinear()], ids=named)
def test_nothing_overflows(spec: Kind, bias: float):
    """Gates all shut or all open, and products of queries and keys of 50 and far more."""
    layer = layer_of(spec)
    if isinstance(spec, GatedLinear):
        with torch.no_grad():
            layer.forget_out.bias.fill_(bias)
    x = 10 * torch.randn(1, 160, HIDDEN)
    q, k, _ = layer._project_turned(x)
    assert (q * k).sum(-1).abs().max() > 50 * layer.head_size**0.5
    x.requires_grad_()
    y = layer(x)
    y.square().mean().backward()
    gradients = [x.grad, *(p.grad for p in layer.parameters())]
    assert all(values.isfinite().all() for values in (y, *gradients))
