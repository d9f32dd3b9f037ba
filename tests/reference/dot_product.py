"""softmax(scores) v, for scores that compare a query with a key."""

from collections.abc import Callable

import torch
from torch import Tensor

from nas.attention import Attention
from tests.reference.parts import at_positions, heads_of, joined, seen_by, slope

Score = Callable[[int, Tensor, Tensor], Tensor]
"""(head, query (E,), keys (n, E)) → scores (n,)."""


def softmax(layer: Attention, x: Tensor, memory: Tensor | None, padding: Tensor | None):
    q, k, v = heads_of(layer, x, memory)
    if layer.spec.qk_norm:
        q = q / (q.square().mean(-1, keepdim=True) + 1e-6).sqrt() * layer.gain_2E[0]
        k = k / (k.square().mean(-1, keepdim=True) + 1e-6).sqrt() * layer.gain_2E[1]
    y, weights = mix(layer, q, k, v, lambda head, q, ks: ks @ q / len(q) ** 0.5, memory is not None, padding)
    if layer.spec.gate:
        gate = layer.gate(x).unflatten(2, (layer.heads, -1))
        y = y / (1 + torch.exp(-gate))
    return joined(layer, y), weights


def cosine(layer: Attention, x: Tensor, memory: Tensor | None, padding: Tensor | None):
    def score(head: int, q: Tensor, ks: Tensor) -> Tensor:
        return layer.log_temperature_H[head].exp() * torch.cosine_similarity(ks, q[None], dim=1)

    y, weights = mix(layer, *heads_of(layer, x, memory), score, memory is not None, padding)
    return joined(layer, y), weights


def window(layer: Attention, x: Tensor, memory: Tensor | None, padding: Tensor | None):
    def sees(t: int, s: int) -> bool:
        # Causality hides the tokens that are later, global or not.
        return abs(t - s) < layer.spec.window or min(t, s) < layer.spec.global_tokens

    heads = heads_of(layer, x, memory)
    y, weights = mix(layer, *heads, lambda head, q, ks: ks @ q / len(q) ** 0.5, False, padding, sees)
    return joined(layer, y), weights


def block_sparse(layer: Attention, x: Tensor, memory: Tensor | None, padding: Tensor | None):
    block, stride, far = layer.spec.block, layer.spec.stride, layer.spec.far

    def sees(t: int, s: int) -> bool:
        own, other = t // block, s // block
        behind = [own, own - 1, *(own - stride * m for m in range(1, far + 1))]
        # Without causality, the same blocks on the other side.
        return other in behind or 2 * own - other in behind

    heads = heads_of(layer, x, memory)
    y, weights = mix(layer, *heads, lambda head, q, ks: ks @ q / len(q) ** 0.5, False, padding, sees)
    return joined(layer, y), weights


def mix(
    layer: Attention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    score: Score,
    across: bool,
    padding: Tensor | None,
    sees: Callable[[int, int], bool] = lambda t, s: True,
) -> tuple[Tensor, Tensor]:
    """(y (B, T, H, E), weights (B, H, T, S)): for each query, the softmax over what it sees, times the values."""
    (B, T, H, _), (_, S, K, E) = q.shape, v.shape
    if layer.position == "rope" and not across:
        q, k = at_positions(q), at_positions(k)
    y, weights = [], torch.zeros(B, H, T, S)
    for b in range(B):
        for t in range(T):
            seen = [s for s in seen_by(layer, b, t, S, across, padding) if sees(t, s)]
            for h in range(H):
                if not seen:
                    y.append(torch.zeros(E))
                    continue
                g = h // (H // K)
                scores = score(h, q[b, t, h], k[b, seen, g])
                if layer.position == "alibi" and not across:
                    scores = scores - slope(h, H) * torch.tensor([abs(t - s) for s in seen])
                share = torch.softmax(scores, dim=0)
                weights[b, h, t, seen] = share.detach()
                y.append(share @ v[b, seen, g])
    return torch.stack(y).view(B, T, H, E), weights
