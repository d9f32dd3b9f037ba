"""What several definitions are made of."""

import torch
from torch import Tensor

from nas.attention import Attention


def turned(vectors: Tensor, position: int) -> Tensor:
    """Rotary positions as complex numbers: pair i of each vector (..., E) turns by position · 10000^(−2i/E)."""
    half = vectors.shape[-1] // 2
    angle = position * 10_000 ** (-torch.arange(half) / half)
    pairs = torch.complex(vectors[..., :half], vectors[..., half:]) * torch.polar(torch.ones(half), angle)
    return torch.cat((pairs.real, pairs.imag), dim=-1)


def at_positions(heads_BTNE: Tensor) -> Tensor:
    """Every vector turned by its place."""
    return torch.stack([turned(heads_BNE, t) for t, heads_BNE in enumerate(heads_BTNE.unbind(1))], dim=1)


def slope(head: int, heads: int) -> float:
    """ALiBi's slope of a head, for a power of two of heads: 2^(−8 (h + 1) / H)."""
    assert heads & (heads - 1) == 0
    return 2.0 ** (-8 * (head + 1) / heads)


def heads_of(layer: Attention, x_BTD: Tensor, memory_BSD: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (B, T, H, E), keys and values (B, S, K, E), without positions."""
    source_BSD = x_BTD if memory_BSD is None else memory_BSD
    W_q, W_k, W_v = layer.qkv.weight.split(layer.qkv.heights)
    b_q, b_k, b_v = (0, 0, 0) if layer.qkv.bias is None else layer.qkv.bias.split(layer.qkv.heights)
    made = (x_BTD @ W_q.T + b_q, source_BSD @ W_k.T + b_k, source_BSD @ W_v.T + b_v)
    return tuple(heads.unflatten(2, (-1, layer.head_size)) for heads in made)


def seen_by(layer: Attention, b: int, t: int, S: int, across: bool, padding_BS: Tensor | None) -> list[int]:
    """The tokens that token t may look at: all of a memory, else the past or everything, without those to ignore."""
    places = range(S if across or not layer.causal else t + 1)
    return [s for s in places if padding_BS is None or not padding_BS[b, s]]


def joined(layer: Attention, y_BTHE: Tensor) -> Tensor:
    y_BTD = y_BTHE.flatten(2) @ layer.out.weight.T
    return y_BTD if layer.out.bias is None else y_BTD + layer.out.bias
