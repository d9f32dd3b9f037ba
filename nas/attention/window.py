"""Sliding-window attention: near tokens only, at a cost linear in the context.

Shapes: B batch, T tokens, S tokens attended to, D hidden, H heads, K heads of keys and values, E head size,
w window, N blocks of w queries, R keys within reach of a block (2·w, or 3·w looking both ways).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nas.architecture import Window
from nas.attention.base import Attention
from nas.attention.dot_product import attend, attend_one
from nas.attention.state import RingCache
from nas.errors import UsageError


class WindowAttention(Attention[RingCache]):
    """softmax(q kᵀ / √E) v over positions t − w < s ≤ t (Beltagy et al. 2020, arXiv:2004.05150); GQA as in softmax.

    Ours: blocks of w queries attend to their own block and the one before, gathered side by side, so the work is a
    band of 2·w keys a query and no T×T mask exists. Without causality w − 1 tokens on each side are seen.

    Time O(T·w·D); decode state 2·min(w, C)·K·E values, a ring that the newest token overwrites at its oldest.
    """

    band_RR: Tensor

    def __init__(self, spec: Window, hidden: int, context: int, causal: bool = True) -> None:
        super().__init__(spec, hidden, context, causal)
        self.window = spec.window
        self.reach = spec.window * (2 if causal else 3)
        distance_RR = torch.arange(min(self.reach, context))
        distance_RR = distance_RR[:, None] - distance_RR
        band_RR = distance_RR.abs() < spec.window
        self.register_buffer("band_RR", band_RR.tril() if causal else band_RR, persistent=False)

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        memory_BSD: Float[Tensor, "B S D"] | None = None,
        padding_BT: Bool[Tensor, "B _"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        if memory_BSD is not None:
            raise UsageError(
                "window attention cannot attend to a memory: its tokens have no distance from those of x",
                help="use softmax, cosine or linear for cross-attention",
            )
        q_BTHE, k_BTKE, v_BTKE = self._project_turned(x_BTD)
        return self._join(self._attend(q_BTHE, k_BTKE, v_BTKE, padding_BT))

    def step(self, x_BTD: Float[Tensor, "B T D"], state: RingCache) -> Float[Tensor, "B T D"]:
        T = x_BTD.size(1)
        start = state.advance(T)
        q_BTHE, k_BTKE, v_BTKE = self._project_turned(x_BTD, start)
        if T == 1:
            return self._join(attend_one(q_BTHE, *state.append_one(start, k_BTKE, v_BTKE)))
        k_BSKE, v_BSKE = state.append(start, k_BTKE, v_BTKE)
        # Empty queries stand in for the tokens held before, so that one path serves every prompt.
        held = k_BSKE.size(1) - T
        q_BSHE = F.pad(q_BTHE, (0, 0, 0, 0, held, 0))
        return self._join(self._attend(q_BSHE, k_BSKE, v_BSKE, None)[:, held:])

    def flops(self, tokens: int) -> int:
        if tokens <= self.reach:
            return self._projection_flops(tokens) + 4 * tokens * tokens * self.hidden
        padded = tokens + -tokens % self.window
        return self._projection_flops(tokens) + 4 * padded * self.reach * self.hidden

    def state_bytes(self, batch: int, context: int) -> int:
        return self._cache_bytes(batch, min(self.window, context))

    def _empty_state(self, batch: int, context: int) -> RingCache:
        shape = (batch, self.kv_heads, min(self.window, context), self.head_size)
        return RingCache(context, self._new(*shape), self._new(*shape))

    def _attend(self, q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, padding_BT: Tensor | None) -> Tensor:
        T = q_BTHE.size(1)
        if self.reach < T:
            return self._attend_in_blocks(q_BTHE, k_BTKE, v_BTKE, padding_BT)
        # A block's band is as wide as the whole sequence: blocks would save nothing.
        visible = self.band_RR[:T, :T]
        if padding_BT is not None:
            visible = visible & ~padding_BT[:, None, None, :]
        return attend(q_BTHE, k_BTKE, v_BTKE, visible=visible)

    def _attend_in_blocks(self, q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, padding_BT: Tensor | None) -> Tensor:
        B, T, H, E = q_BTHE.shape
        real_BT = q_BTHE.new_ones(1, T, dtype=torch.bool) if padding_BT is None else ~padding_BT
        real_BN1R = self._in_reach(real_BT[..., None, None]).flatten(2)[:, :, None]
        # The band's second block of rows is what a block sees of its neighbours, where they exist.
        visible_BNwR = real_BN1R & self.band_RR[self.window : 2 * self.window]
        blocks = visible_BNwR.size(1)
        q_BTHE = F.pad(q_BTHE, (0, 0, 0, 0, 0, blocks * self.window - T))
        y = attend(
            q_BTHE.reshape(B * blocks, self.window, H, E),
            self._in_reach(k_BTKE).flatten(0, 1),
            self._in_reach(v_BTKE).flatten(0, 1),
            visible=visible_BNwR.expand(B, -1, -1, -1).flatten(0, 1)[:, None],
        )
        return y.reshape(B, -1, self.hidden)[:, :T]

    def _in_reach(self, tokens_BTKE: Tensor) -> Tensor:
        """The tokens that each block can see, (B, N, R, K, E): its own and the neighbouring blocks', zeros outside."""
        w, T = self.window, tokens_BTKE.size(1)
        blocks, neighbours = -(-T // w), self.reach // w
        behind = (blocks + neighbours - 1) * w - w - T
        padded = F.pad(tokens_BTKE, (0, 0, 0, 0, w, behind))
        shifted = [padded.narrow(1, i * w, blocks * w) for i in range(neighbours)]
        return torch.cat([s.view(s.size(0), blocks, w, *s.shape[2:]) for s in shifted], dim=2)
