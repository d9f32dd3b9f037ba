"""The definitions of the attention mechanisms, one query at a time: no fused kernel, no mask, no cache.

These are the specification: slow and obvious, and differentiable by plain autograd. Weights are the module's own.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.architecture import Cosine, Headed, Linear, Softmax, Window
from nas.attention import Attention


def turned(vector_E: Tensor, position: int) -> Tensor:
    """Rotary positions as complex numbers: pair i of the vector turns by position · 10000^(−2i/E)."""
    half = len(vector_E) // 2
    angle = position * 10_000 ** (-torch.arange(half) / half)
    pairs = torch.complex(vector_E[:half], vector_E[half:]) * torch.polar(torch.ones(half), angle)
    return torch.cat((pairs.real, pairs.imag))


def at_positions(heads_BTNE: Tensor) -> Tensor:
    B, T, N, _ = heads_BTNE.shape
    return torch.stack([turned(heads_BTNE[b, t, n], t) for b in range(B) for t in range(T) for n in range(N)]).view_as(
        heads_BTNE
    )


def softmax(layer: Attention, head: int, q: Tensor, ks: Tensor, vs: Tensor, turned_q: Tensor, turned_ks: Tensor):
    return torch.softmax(turned_ks @ turned_q / len(q) ** 0.5, dim=0) @ vs


def cosine(layer: Attention, head: int, q: Tensor, ks: Tensor, vs: Tensor, turned_q: Tensor, turned_ks: Tensor):
    angles = torch.cosine_similarity(turned_ks, turned_q[None], dim=1)
    return torch.softmax(layer.log_temperature_H[head].exp() * angles, dim=0) @ vs


def linear(layer: Attention, head: int, q: Tensor, ks: Tensor, vs: Tensor, turned_q: Tensor, turned_ks: Tensor):
    return (turned_ks @ turned_q) @ vs / ((ks @ q).sum() + 1e-6)


MIX: dict[type[Headed], Callable[..., Tensor]] = {Softmax: softmax, Cosine: cosine, Window: softmax, Linear: linear}
"""What a query makes of the values that it sees."""


def sees(spec: Headed, causal: bool, t: int, s: int) -> bool:
    near = abs(t - s) < spec.window if isinstance(spec, Window) else True
    return near and (s <= t or not causal)


def attention(
    layer: Attention, spec: Headed, x_BTD: Tensor, memory_BSD: Tensor | None = None, padding_BS: Tensor | None = None
) -> Tensor:
    across = memory_BSD is not None
    source_BSD = memory_BSD if across else x_BTD
    (B, T, D), S, H, K, E = x_BTD.shape, source_BSD.size(1), layer.heads, layer.kv_heads, layer.head_size
    W_q, W_k, W_v = layer.qkv.weight.split((D, K * E, K * E))
    q, k, v = (x_BTD @ W_q.T).view(B, T, H, E), (source_BSD @ W_k.T).view(B, S, K, E), (source_BSD @ W_v.T)
    v = v.view(B, S, K, E)
    if isinstance(spec, Linear):
        q, k = F.elu(q) + 1, F.elu(k) + 1
    turned_q, turned_k = (q, k) if across else (at_positions(q), at_positions(k))
    rows = []
    for b in range(B):
        for t in range(T):
            seen = [s for s in range(S) if across or sees(spec, layer.causal, t, s)]
            seen = [s for s in seen if padding_BS is None or not padding_BS[b, s]]
            for h in range(H):
                g = h // (H // K)
                row = (q[b, t, h], k[b, seen, g], v[b, seen, g], turned_q[b, t, h], turned_k[b, seen, g])
                rows.append(MIX[type(spec)](layer, h, *row) if seen else torch.zeros(E))
    return torch.stack(rows).view(B, T, D) @ layer.out.weight.T
