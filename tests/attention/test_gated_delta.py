"""The gated delta rule in chunks, against the recurrence that it stands for."""

import pytest
import torch
import torch.nn.functional as F

from nas.attention import build
from nas.attention.delta_rule import apply_rule, apply_to_one
from nas.kinds import GatedDelta

B, T, H, E, V = 2, 131, 3, 8, 5


def token_by_token(q, k, v, log_decay, beta, state):
    y = []
    for t in range(q.size(1)):
        decayed = log_decay[:, t].exp()[..., None, None] * state
        replaced = torch.einsum("bhe,bhef->bhf", k[:, t], decayed)
        new = beta[:, t, :, None] * (v[:, t] - replaced)
        state = decayed + torch.einsum("bhe,bhf->bhef", k[:, t], new)
        y.append(torch.einsum("bhe,bhef->bhf", q[:, t], state) / q.size(-1) ** 0.5)
    return torch.stack(y, dim=1), state


def inputs(decays: str) -> list[torch.Tensor]:
    torch.manual_seed(0)
    q, k = (F.normalize(torch.randn(B, T, H, E, dtype=torch.float64), dim=-1) for _ in range(2))
    v, state = torch.randn(B, T, H, V, dtype=torch.float64), torch.randn(B, H, E, V, dtype=torch.float64)
    share = torch.rand(B, T, H, dtype=torch.float64)
    log_decay = {
        "near 0": -40 * share - 20,
        "near 1": -1e-6 * share,
        "of both kinds": torch.where(share < 0.2, -1e3, -1e-3).double(),
        "of every kind": share.log(),
    }[decays]
    return [t.requires_grad_() for t in (q, k, v, log_decay, torch.rand(B, T, H, dtype=torch.float64), state)]


@pytest.mark.parametrize("decays", ["near 0", "near 1", "of both kinds", "of every kind"])
def test_chunks_equal_the_recurrence_and_its_gradients(decays):
    given = inputs(decays)
    fast, slow = apply_rule(*given), token_by_token(*given)
    seeds = [torch.randn_like(part) for part in slow]
    fast_gradients, slow_gradients = (torch.autograd.grad(parts, given, seeds) for parts in (fast, slow))
    for a, b in zip((*fast, *fast_gradients), (*slow, *slow_gradients), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_one_token_equals_a_chunk_of_one():
    *tokens, state = (t.detach() for t in inputs("of every kind"))
    first = [t[:, :1] for t in tokens]
    y, after = apply_rule(*first, state)
    torch.testing.assert_close(apply_to_one(*first, state), y)
    torch.testing.assert_close(state, after)


def test_a_key_that_never_changes_is_solved_for_exactly():
    """The hardest system: an explicit power series of its matrix would need numbers as large as 10⁸."""
    q, k, v, _, _, state = (t.detach() for t in inputs("near 1"))
    same, kept, all_of_it = k[:, :1].expand_as(k), torch.zeros(B, T, H), torch.ones(B, T, H)
    y, _ = apply_rule(q.float(), same.float(), v.float(), kept, all_of_it, state.float())
    exact, _ = token_by_token(q, same, v, kept.double(), all_of_it.double(), state)
    torch.testing.assert_close(y.double(), exact, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [0, 50, 1000])
def test_is_finite_whatever_it_reads(scale):
    torch.manual_seed(0)
    layer = build(GatedDelta(), 32, 100)
    x = (scale * torch.randn(2, 100, 32)).requires_grad_()
    y = layer(x)
    gradients = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
    assert all(tensor.isfinite().all() for tensor in (y, *gradients))


def test_starts_out_with_heads_that_remember():
    layer = build(GatedDelta(heads=16), 64, 8)
    log_decay, beta = layer._rates(torch.zeros(1, 1, 64), None)
    assert -1.6 <= log_decay.min() < log_decay.max() < 0
    assert (beta == 0.5).all()
