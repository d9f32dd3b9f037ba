"""Defines sliding-window attention: tokens see near tokens and a few global ones, at a cost linear in the context.

Shapes: B batch, S tokens attended to, H heads, K heads of keys and values, E head size, C context.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nas.attention.dot_product import attend_one
from nas.attention.gathered import Pattern
from nas.attention.sparse import SparseAttention
from nas.attention.state import RingCache
from nas.kinds import Position, Window


@dataclass(frozen=True)
class Near:
    """Lets t see s when |t − s| < w or s is among the first g tokens; t among those sees all. Causal: only the past."""

    window: int
    global_tokens: int
    causal: bool

    def __call__(self, t: Tensor, s: Tensor) -> Tensor:
        seen = ((t - s).abs() < self.window) | (s < self.global_tokens)
        return seen & (s <= t) if self.causal else seen | (t < self.global_tokens)


class WindowAttention(SparseAttention):
    """y_t = softmax(q kᵀ / √E) v over positions t − w < s ≤ t and s < g (Beltagy et al. 2020, arXiv:2004.05150).

    All later tokens see the g global tokens, as attention sinks (Xiao et al. 2023, arXiv:2309.17453). Shared keys and
    values as in softmax. Without causality a token sees w − 1 tokens on each side, and global tokens see all.

    Where we differ: global tokens have no projections of their own. Blocks of w/4 queries (w/2 with global tokens, at
    least 16) attend to their own keys and those of their neighbours: a band of 5·w/4 keys a query, or 3·w/2 + g, so no
    T×T mask exists.

    Time O(T·(w + g)·D); decode state 2·min(w + g, C)·K·E values: the g first, and a ring in which the newest token
    overwrites the oldest.
    """

    def __init__(self, spec: Window, hidden: int, context: int, causal: bool, position: Position) -> None:
        w, g = spec.window, spec.global_tokens
        # Smaller blocks compute fewer masked scores. But global tokens are copied in front of every block, and all
        # other keys with them.
        block = max(16, w // (2 if g else 4))
        behind = -(-(w - 1) // block)
        reach = tuple(range(-behind, 1 if causal else behind + 1))
        super().__init__(spec, hidden, context, causal, position, Pattern(Near(w, g, causal), block, reach, g))
        self.window, self.global_tokens = w, g

    def state_bytes(self, batch: int, context: int) -> int:
        return self._cache_bytes(batch, min(self.window + self.global_tokens, context))

    def _empty_state(self, batch: int, context: int) -> RingCache:
        slots = min(self.window + self.global_tokens, context)
        shape = (batch, self.kv_heads, slots, self.head_size)
        # In a context hardly longer than the window, later global tokens never leave the window.
        return RingCache(context, self._new(*shape), self._new(*shape), first=max(0, slots - self.window))

    def _needed(self, start: int) -> int:
        return min(start, self.window - 1)

    def _attend_one(self, q_B1HE: Tensor, k_B1KE: Tensor, v_B1KE: Tensor, state: RingCache, start: int) -> Tensor:
        k_BKSE, v_BKSE = state.append_one(start, k_B1KE, v_B1KE)
        if self.alibi is None:
            return attend_one(q_B1HE, k_BKSE, v_BKSE)
        key_S = state.positions()
        bias_HS = self.alibi(torch.full_like(key_S[:1], start), key_S)[:, 0]
        return attend_one(q_B1HE, k_BKSE, v_BKSE, bias_HS=bias_HS)
