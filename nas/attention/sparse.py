"""Holds the frame of kinds whose queries see few keys, chosen by position.

Shapes: B batch, T tokens, S tokens attended to, D hidden, H heads, K heads of keys and values, E head size.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nas.attention import flex
from nas.attention.base import HeadedAttention
from nas.attention.dot_product import attend, explicit_weights
from nas.attention.gathered import Gathered, Pattern
from nas.attention.state import RingCache
from nas.kinds import Grouped, Position


class SparseAttention(HeadedAttention[RingCache]):
    """y = softmax(q kᵀ / √E) v over what a pattern shows, at a cost linear in T.

    Keys are gathered for blocks of queries; on a GPU a fused kernel skips the others instead. Where a block would get
    the whole sequence, blocks save nothing, and one mask serves all queries at once.
    """

    def __init__(self, spec: Grouped, hidden: int, context: int, causal: bool, position: Position, pattern: Pattern):
        super().__init__(spec, hidden, context, causal, position)
        self.pattern, self.gathered = pattern, Gathered(pattern)

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        memory_BSD: Float[Tensor, "B S D"] | None = None,
        padding_BT: Bool[Tensor, "B _"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        if memory_BSD is not None:
            return self.recall(x_BTD, self.remember(memory_BSD, padding_BT))
        q_BTHE, k_BTKE, v_BTKE = self._project_turned(x_BTD)
        if flex.pays(q_BTHE, self.pattern):
            y_BTD = flex.attend_fused(self.pattern.sees, q_BTHE, k_BTKE, v_BTKE, self.alibi, padding_BT)
        else:
            y_BTD = self._attend(q_BTHE, k_BTKE, v_BTKE, padding_BT)
        return self._join(y_BTD)

    def step(self, x_BTD: Float[Tensor, "B T D"], state: RingCache) -> Float[Tensor, "B T D"]:
        T = x_BTD.size(1)
        start = state.advance(T)
        q_BTHE, k_BTKE, v_BTKE = self._project_turned(x_BTD, start)
        if T == 1:
            return self._join(self._attend_one(q_BTHE, k_BTKE, v_BTKE, state, start))
        # Gathered on a GPU too: the fused kernel would be compiled for every length of a prompt.
        held = self._needed(start)
        k_BSKE, v_BSKE = state.append(start, k_BTKE, v_BTKE, held)
        # Empty queries replace the tokens held before, so that one path serves every prompt.
        q_BSHE = F.pad(q_BTHE, (0, 0, 0, 0, held, 0))
        if held == start:
            return self._join(self._attend(q_BSHE, k_BSKE, v_BSKE, None)[:, held:])
        y_BSD = self.gathered(q_BSHE, k_BSKE, v_BSKE, self.alibi, None, start - held, state.leading())
        return self._join(y_BSD[:, held:])

    def weights(
        self, x_BTD: Tensor, memory_BSD: Tensor | None = None, padding_BT: Tensor | None = None
    ) -> Float[Tensor, "B H T S"]:
        if memory_BSD is not None:
            raise self._has_no("cross form: its tokens have no place in another sequence")
        T = x_BTD.size(1)
        q_BTHE, k_BTKE, _ = self._project_turned(x_BTD)
        visible, bias = self._sight(T, T, padding_BT, x_BTD.device)
        return explicit_weights(q_BTHE, k_BTKE, visible=visible, bias=bias)

    def flops(self, tokens: int, source: int | None = None) -> int:
        return self._projection_flops(tokens) + 4 * self._pairs(tokens) * self.width

    def _pairs(self, tokens: int) -> int:
        """Counts the queries, and the keys that each is compared with, in the gathered form."""
        if tokens <= self.pattern.keys:
            return tokens * tokens
        blocks = -(-tokens // self.pattern.block)
        overview = 0 if self.causal else self.pattern.leading * tokens
        return blocks * self.pattern.block * self.pattern.keys + overview

    def _attend(self, q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, padding_BT: Tensor | None) -> Tensor:
        """Attends within a whole sequence."""
        T, G = q_BTHE.size(1), self.pattern.leading
        if self.pattern.keys < T:
            y_BTD: Tensor = self.gathered(q_BTHE, k_BTKE, v_BTKE, self.alibi, padding_BT)
            if self.causal or not G:
                return y_BTD
            visible, bias = self._sight(G, T, padding_BT, q_BTHE.device)
            y_BGD = attend(q_BTHE[:, :G], k_BTKE, v_BTKE, visible=visible, bias=bias)
            return torch.cat((y_BGD, y_BTD[:, G:]), dim=1)
        visible, bias = self._sight(T, T, padding_BT, q_BTHE.device)
        return attend(q_BTHE, k_BTKE, v_BTKE, visible=visible, bias=bias)

    def _sight(
        self, queries: int, keys: int, padding_BT: Tensor | None, device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """Returns what the first queries see of the first keys, and what is added to their scores, if anything."""
        key_S = torch.arange(keys, device=device)
        visible = self.pattern.sees(key_S[:queries, None], key_S)
        if padding_BT is not None:
            visible = visible & ~padding_BT[:, None, None]
        return visible, None if self.alibi is None else self.alibi(key_S[:queries], key_S)

    @abstractmethod
    def _attend_one(self, q_B1HE: Tensor, k_B1KE: Tensor, v_B1KE: Tensor, state: RingCache, start: int) -> Tensor:
        """Attends with the token at position `start` to what the state holds: (B, 1, H·E)."""

    @abstractmethod
    def _needed(self, start: int) -> int:
        """Counts the tokens before `start` that are near enough for a token from `start` on to see them."""
