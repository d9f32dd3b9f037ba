"""Defines additive attention: a small network, not a product, compares queries with keys.

Shapes: B batch, T tokens, S tokens attended to, D hidden, H heads, E head size, Q queries of a block.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nas.attention.base import HeadedAttention
from nas.attention.dot_product import lower_triangle
from nas.attention.state import KeyValueCache, Memory
from nas.kinds import Additive, Position

BLOCK_VALUES = 2**20
"""Limits the largest tensor, which has a value for each query of a block, each key and each hidden unit.

Forward and backward at T = 512, hidden 128, on one core: 2^18 53 ms, 2^20 37 ms, 2^22 59 ms.
"""

LARGEST = 40.0
"""Bounds the values of queries and keys: e^(2·40) is finite in fp32, and tanh is ±1 long before."""


class AdditiveAttention(HeadedAttention[KeyValueCache]):
    """y_t = softmax_s(a · tanh(q_t + k_s)) v_s, with a learned per head (Bahdanau et al. 2015, arXiv:1409.0473).

    Where we differ: there are several heads, and keys and values come from separate matrices. a starts at N(0, 1.4²/E),
    which gives scores a variance of 1.

    tanh(x) = 1 − 2/(1 + e^2x) and e^2(q + k) = e^2q · e^2k. So a pair takes a product and a division, and exponentials
    are computed for single tokens only. The 1 cancels in the softmax.

    Time O(T²·D), with one division for each query, key and value; memory O(T²·H), since no pass makes a tensor of T² by
    D. Decode state 2·C·H·E values.
    """

    def __init__(self, spec: Additive, hidden: int, context: int, causal: bool, position: Position) -> None:
        super().__init__(spec, hidden, context, causal, position)
        self.score_HE = nn.Parameter(torch.randn(self.heads, self.head_size) * 1.4 / self.head_size**0.5)

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        memory_BSD: Float[Tensor, "B S D"] | None = None,
        padding_BT: Bool[Tensor, "B _"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        if memory_BSD is not None:
            return self.recall(x_BTD, self.remember(memory_BSD, padding_BT))
        q_BTHE, k_BTHE, v_BTHE = self._project_turned(x_BTD)
        return self._mix(q_BTHE, k_BTHE.transpose(1, 2), v_BTHE.transpose(1, 2), 0, _visible(padding_BT))

    def step(self, x_BTD: Float[Tensor, "B T D"], state: KeyValueCache) -> Float[Tensor, "B T D"]:
        start = state.advance(x_BTD.size(1))
        q_BTHE, k_BTHE, v_BTHE = self._project_turned(x_BTD, start)
        return self._mix(q_BTHE, *state.append(start, k_BTHE, v_BTHE), start, None)

    def remember(self, memory_BSD: Tensor, padding_BS: Tensor | None = None) -> Memory:
        return Memory(*self._project_memory(memory_BSD), _visible(padding_BS))

    def recall(self, x_BTD: Tensor, memory: Memory) -> Tensor:
        k_BHSE, v_BHSE = memory.keys_BSKE.transpose(1, 2), memory.values_BSKE.transpose(1, 2)
        return self._mix(self._project_queries(x_BTD), k_BHSE, v_BHSE, None, memory.visible_B11S)

    def memory_bytes(self, batch: int, source: int) -> int:
        return self._cache_bytes(batch, source)

    def weights(
        self, x_BTD: Tensor, memory_BSD: Tensor | None = None, padding_BT: Tensor | None = None
    ) -> Float[Tensor, "B H T S"]:
        if memory_BSD is None:
            q_BTHE, k_BSHE, _ = self._project_turned(x_BTD)
        else:
            q_BTHE, (k_BSHE, _) = self._project_queries(x_BTD), self._project_memory(memory_BSD)
        start, S = 0 if memory_BSD is None else None, k_BSHE.size(1)
        shares = self._shares(q_BTHE, k_BSHE.transpose(1, 2), start, _visible(padding_BT))
        return torch.cat([F.pad(block_BHQS, (0, S - block_BHQS.size(3))) for block_BHQS in shares], dim=2)

    def flops(self, tokens: int, source: int | None = None) -> int:
        """Counts the products in a · tanh(…) and in weights times values, for a single sequence.

        In a batch, blocks are smaller and compute fewer masked scores.
        """
        pairs = tokens * (tokens if source is None else source)
        if source is None and self.causal:
            rows = _queries_at_once(tokens * self.width)
            pairs = sum((min(i + rows, tokens) - i) * min(i + rows, tokens) for i in range(0, tokens, rows))
        return self._projection_flops(tokens, source) + 4 * pairs * self.width

    def state_bytes(self, batch: int, context: int) -> int:
        return self._cache_bytes(batch, context)

    def _empty_state(self, batch: int, context: int) -> KeyValueCache:
        shape = (batch, self.heads, context, self.head_size)
        return KeyValueCache(context, self._new(*shape), self._new(*shape))

    def _mix(
        self, q_BTHE: Tensor, k_BHSE: Tensor, v_BHSE: Tensor, start: int | None, visible_B11S: Tensor | None
    ) -> Tensor:
        """Computes the output from the arguments of `_shares` and the values."""
        shares = self._shares(q_BTHE, k_BHSE, start, visible_B11S)
        y_BHTE = torch.cat([block_BHQS @ v_BHSE[:, :, : block_BHQS.size(3)] for block_BHQS in shares], dim=2)
        return self._join(y_BHTE.transpose(1, 2).flatten(2))

    def _shares(
        self, q_BTHE: Tensor, k_BHSE: Tensor, start: int | None, visible_B11S: Tensor | None
    ) -> Iterator[Tensor]:
        """Yields the weights (B, H, Q, S) block of queries by block; S ends at the last token that the block may see.

        `start` is the position of the first query among the keys, or None where the keys belong to a memory.
        """
        q_BHTE = q_BTHE.transpose(1, 2)
        up_q_BHTE, up_k_BHSE = _up(q_BHTE), _up(k_BHSE)
        rows = _queries_at_once(k_BHSE.numel())
        for i in range(0, q_BHTE.size(2), rows):
            Q, end, visible = min(rows, q_BHTE.size(2) - i), k_BHSE.size(2), visible_B11S
            if start is not None and self.causal:
                end = start + i + Q
                past_QS = lower_triangle(Q, start + i, q_BHTE.device)
                visible = past_QS if visible_B11S is None else visible_B11S[..., :end] & past_QS
            queries, keys = (q_BHTE, up_q_BHTE), (k_BHSE, up_k_BHSE)
            scores_BHQS: Tensor = _Scores.apply(  # type: ignore[no-untyped-call]  # torch gives it no types
                *(x[:, :, i : i + Q] for x in queries), *(x[:, :, :end] for x in keys), self.score_HE
            )
            if start is not None and self.alibi is not None:
                keys_S = torch.arange(end, device=q_BHTE.device)
                scores_BHQS = scores_BHQS + self.alibi(keys_S[start + i : start + i + Q], keys_S)
            yield _softmax(scores_BHQS, visible)


class _Scores(torch.autograd.Function):
    """Computes a · tanh(q_t + k_s) − Σ a, (B, H, Q, S), from e^2q and e^2k; gradients go to q and k themselves.

    The backward pass computes the largest tensor again instead of keeping it.
    """

    @staticmethod
    def forward(ctx: Any, q_BHQE: Tensor, up_q_BHQE: Tensor, k_BHSE: Tensor, up_k_BHSE: Tensor, a_HE: Tensor) -> Tensor:
        ctx.save_for_backward(up_q_BHQE, up_k_BHSE, a_HE)
        low_BHQSE = _low(up_q_BHQE, up_k_BHSE)
        scores_BHN1: Tensor = low_BHQSE.flatten(2, 3) @ (-2 * a_HE[..., None])
        return scores_BHN1.view(low_BHQSE.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BHQS: Tensor) -> tuple[Tensor, None, Tensor, None, Tensor]:
        up_q_BHQE, up_k_BHSE, a_HE = ctx.saved_tensors
        low_BHQSE = _low(up_q_BHQE, up_k_BHSE)
        grad_a_HE = -2 * (grad_BHQS.flatten(2)[:, :, None] @ low_BHQSE.flatten(2, 3)).sum((0, 2))
        # tanh' = 4 · low · (1 − low).
        slope_BHQSE = (low_BHQSE - low_BHQSE.square()).mul_(grad_BHQS[..., None])
        four_a_H1E = 4 * a_HE[:, None]
        return slope_BHQSE.sum(3) * four_a_H1E, None, slope_BHQSE.sum(2) * four_a_H1E, None, grad_a_HE


def _up(x_BHTE: Tensor) -> Tensor:
    """Computes e^2x in contiguous memory."""
    return (2 * x_BHTE.detach().clamp(-LARGEST, LARGEST)).exp().contiguous()


def _low(up_q_BHQE: Tensor, up_k_BHSE: Tensor) -> Tensor:
    """Computes ½ (1 − tanh(q + k)) = 1 / (1 + e^2q · e^2k) for every pair, (B, H, Q, S, E)."""
    return (up_q_BHQE[:, :, :, None] * up_k_BHSE[:, :, None]).add_(1).reciprocal_()


def _softmax(scores_BHQS: Tensor, visible: Tensor | None) -> Tensor:
    """Takes the softmax over the visible keys; a query that sees none gets zeros."""
    if visible is None:
        return scores_BHQS.softmax(-1)
    # A row of −∞ alone would give NaN; the lowest finite number does not.
    lowest = torch.finfo(scores_BHQS.dtype).min
    return scores_BHQS.masked_fill(~visible, lowest).softmax(-1) * visible


def _queries_at_once(key_values: int) -> int:
    """Returns how many queries one block compares with all keys; `key_values` counts the values of all keys."""
    return max(1, BLOCK_VALUES // key_values)


def _visible(padding_BS: Tensor | None) -> Tensor | None:
    return None if padding_BS is None else ~padding_BS[:, None, None]
