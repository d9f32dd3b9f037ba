"""Softmax attention.

Shapes: B batch, T tokens, S tokens attended to, D hidden, C context, H heads, K heads of keys and values, E head size.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nas.attention.base import Attention
from nas.attention.dot_product import attend, attend_one
from nas.attention.state import KeyValueCache


class SoftmaxAttention(Attention[KeyValueCache]):
    """softmax(q kᵀ / √E) v (Vaswani et al. 2017, arXiv:1706.03762), with rotary positions in q and k.

    With fewer heads of keys and values than of queries, H/K neighbouring queries share one (GQA, Ainslie et al.
    2023, arXiv:2305.13245; MQA, Shazeer 2019, arXiv:1911.02150).

    Time O(T²·D); decode state 2·C·K·E values.
    """

    score_scale: float | None = None
    """None: 1/√E."""

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        memory_BSD: Float[Tensor, "B S D"] | None = None,
        padding_BT: Bool[Tensor, "B _"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        if memory_BSD is None:
            q_BTHE, k_BSKE, v_BSKE = self._project_turned(x_BTD)
        else:
            q_BTHE, k_BSKE, v_BSKE = self._project_across(x_BTD, memory_BSD)
        causal, visible = self.causal and memory_BSD is None, None
        if padding_BT is not None:
            visible = ~padding_BT[:, None, None, :]
            if causal:
                causal, visible = False, visible & _lower_triangle(x_BTD.size(1), 0, x_BTD.device)
        return self._join(attend(q_BTHE, k_BSKE, v_BSKE, self.score_scale, visible, causal))

    def step(self, x_BTD: Float[Tensor, "B T D"], state: KeyValueCache) -> Float[Tensor, "B T D"]:
        T = x_BTD.size(1)
        start = state.advance(T)
        q_BTHE, k_BTKE, v_BTKE = self._project_turned(x_BTD, start)
        k_BKSE, v_BKSE = state.append(start, k_BTKE, v_BTKE)
        if T == 1:
            return self._join(attend_one(q_BTHE, k_BKSE, v_BKSE, self.score_scale))
        if start == 0:
            return self._join(attend(q_BTHE, k_BTKE, v_BTKE, self.score_scale, causal=True))
        visible_TS = _lower_triangle(T, start, x_BTD.device)
        k_BSKE, v_BSKE = k_BKSE.transpose(1, 2), v_BKSE.transpose(1, 2)
        return self._join(attend(q_BTHE, k_BSKE, v_BSKE, self.score_scale, visible_TS))

    def flops(self, tokens: int) -> int:
        return self._projection_flops(tokens) + 4 * tokens * tokens * self.hidden

    def state_bytes(self, batch: int, context: int) -> int:
        return self._cache_bytes(batch, context)

    def _empty_state(self, batch: int, context: int) -> KeyValueCache:
        shape = (batch, self.kv_heads, context, self.head_size)
        return KeyValueCache(context, self._new(*shape), self._new(*shape))


def _lower_triangle(tokens: int, seen: int, device: torch.device) -> Tensor:
    """True where query t, at position seen + t, may look: (T, seen + T)."""
    return torch.ones(tokens, seen + tokens, dtype=torch.bool, device=device).tril(seen)
