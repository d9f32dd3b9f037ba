"""The performer: what its features estimate, how they are drawn, and that none of them overflows."""

from itertools import pairwise

import pytest
import torch

from nas.attention import build
from nas.attention.performer import draw_directions
from nas.kinds import Performer, Softmax

HIDDEN, T = 32, 40


@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_comes_to_equal_softmax_with_more_features(causal):
    torch.manual_seed(0)
    x = torch.randn(2, T, HIDDEN)
    softmax = build(Softmax(), HIDDEN, T, causal)
    torch.nn.init.normal_(softmax.qkv.weight, std=0.5 / HIDDEN**0.5)
    errors = []
    for features in (4, 64, 512, 4096):
        layer = build(Performer(features=features), HIDDEN, T, causal)
        layer.load_state_dict(softmax.state_dict(), strict=False)
        errors.append(((layer(x) - softmax(x)).norm() / softmax(x).norm()).item())
    assert all(later < 0.6 * earlier for earlier, later in pairwise(errors))
    assert errors[-1] < 0.06


@pytest.mark.parametrize(("features", "head_size"), [(20, 8), (3, 8), (512, 64)])
def test_the_directions_are_orthogonal_in_blocks_and_as_long_as_gaussian_vectors(features, head_size):
    directions = draw_directions(features, head_size)
    assert directions.shape == (features, head_size)
    for block in directions.split(head_size):
        products = block @ block.T
        assert (products - products.diag().diag()).abs().max() < 1e-3
    squares = directions.square().sum(1)
    expected, spread = head_size, (2 * head_size / features) ** 0.5
    assert abs(squares.mean() - expected) < 3 * spread
    assert squares.std() > 0


def test_the_directions_are_the_same_in_all_layers_and_saved_but_not_trained():
    first, second = (build(Performer(), HIDDEN, T) for _ in range(2))
    assert torch.equal(first.directions_FE, second.directions_FE)
    assert "directions_FE" in first.state_dict()
    assert "directions_FE" not in dict(first.named_parameters())


@pytest.mark.parametrize("likeness", [1, -1])
@pytest.mark.parametrize("head_size", [8, 128])
@pytest.mark.parametrize("causal", [True, False])
def test_is_finite_at_large_scores(causal, head_size, likeness):
    torch.manual_seed(0)
    layer = build(Performer(heads=2, head_size=head_size), HIDDEN, 100, causal)
    queries, keys, _ = layer.qkv.weight.data.split(layer.qkv.heights)
    keys.copy_(likeness * queries)
    for size in (10, 100):
        x = (size * torch.randn(2, 100, HIDDEN)).requires_grad_()
        y = layer(x)
        gradients = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
        assert all(tensor.isfinite().all() for tensor in (y, *gradients))
        q, k, v = layer._project_turned(x)
        assert torch.einsum("bthe,bshe->bhts", q, k).abs().max() / head_size**0.5 > 50
        assert y.abs().max() <= (v.abs().amax((0, 1)).flatten() @ layer.out.weight.abs().T).max()
