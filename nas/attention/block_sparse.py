"""Defines block-sparse attention: near blocks and every s-th block before them, at a cost linear in the context.

Shapes: B batch, S tokens attended to, H heads, K heads of keys and values, E head size, C context, R keys in reach of a
block.
"""

from dataclasses import dataclass

from torch import Tensor

from nas.attention.dot_product import attend_one
from nas.attention.gathered import Pattern
from nas.attention.sparse import SparseAttention
from nas.attention.state import RingCache
from nas.kinds import BlockSparse, Position


@dataclass(frozen=True)
class Strided:
    """Lets t see s when their blocks of b tokens are d apart, for d ≤ 1 or d = s·m with m up to n.

    The causal rule shows the past alone.
    """

    block: int
    stride: int
    far: int
    causal: bool

    def __call__(self, t: Tensor, s: Tensor) -> Tensor:
        apart = (t // self.block - s // self.block).abs()
        seen = (apart <= 1) | ((apart % self.stride == 0) & (apart <= self.stride * self.far))
        return seen & (s <= t) if self.causal else seen


class BlockSparseAttention(SparseAttention):
    """y = softmax(q kᵀ / √E) v over blocks of b tokens: the query's own block i, i − 1, and i − s·m for m = 1 … n.

    After the strided pattern of Child et al. 2019 (arXiv:1904.10509); shared keys and values as in softmax. Where we
    differ: blocks replace single tokens, every head has both parts, and the strided part ends after n blocks, which
    bounds what a query sees. Without causality a query also sees the mirrored blocks behind its own.

    Time O(T·b·n·D); decode state 2·min((s·n + 1)·b, C)·K·E values in a ring, of which a token reads the n + 2 blocks
    that it sees.
    """

    def __init__(self, spec: BlockSparse, hidden: int, context: int, causal: bool, position: Position) -> None:
        furthest = spec.stride * spec.far
        before = (*range(-furthest, 0, spec.stride), -1)
        reach = (*before, 0) if causal else (*before, 0, *(-distance for distance in reversed(before)))
        sees = Strided(spec.block, spec.stride, spec.far, causal)
        super().__init__(spec, hidden, context, causal, position, Pattern(sees, spec.block, reach))
        self.block, self.furthest = spec.block, furthest

    def state_bytes(self, batch: int, context: int) -> int:
        return self._cache_bytes(batch, self._slots(context))

    def _slots(self, context: int) -> int:
        return min((self.furthest + 1) * self.block, context)

    def _empty_state(self, batch: int, context: int) -> RingCache:
        shape = (batch, self.kv_heads, self._slots(context), self.head_size)
        return RingCache(context, self._new(*shape), self._new(*shape))

    def _needed(self, start: int) -> int:
        return start - max(0, start // self.block - self.furthest) * self.block

    def _attend_one(self, q_B1HE: Tensor, k_B1KE: Tensor, v_B1KE: Tensor, state: RingCache, start: int) -> Tensor:
        state.append_one(start, k_B1KE, v_B1KE)
        block, place = divmod(start, self.block)
        missing = sum(block + distance < 0 for distance in self.pattern.reach)
        offset_R = self.gathered.offset_R
        key_S = block * self.block + offset_R[missing * self.block : len(offset_R) - self.block + place + 1]
        bias_HS = None if self.alibi is None else self.alibi(key_S[-1:], key_S)[:, 0]
        return attend_one(q_B1HE, *state.at(key_S), bias_HS=bias_HS)
