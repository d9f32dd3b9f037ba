"""Defines softmax attention, and dot-product attention with a cache, which several kinds extend.

Shapes: B batch, T tokens, S tokens attended to, D hidden, C context, H heads, K heads of keys and values, M = H + K, E
head size.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nas.attention.base import HeadedAttention
from nas.attention.dot_product import attend, attend_one, explicit_weights, lower_triangle
from nas.attention.state import KeyValueCache, Memory
from nas.kinds import Position, Softmax


class DotProductAttention(HeadedAttention[KeyValueCache]):
    """y = softmax(scale · q kᵀ) v, with q and k as `_feature` makes them; a cache keeps all keys and values."""

    score_scale: float | None = None
    """The factor of the scores before the softmax; None stands for 1/√E."""

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        memory_BSD: Float[Tensor, "B S D"] | None = None,
        padding_BT: Bool[Tensor, "B _"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        if memory_BSD is not None:
            return self.recall(x_BTD, self.remember(memory_BSD, padding_BT))
        q_BTHE, k_BTKE, v_BTKE = self._project_turned(x_BTD)
        if self.causal and padding_BT is None and self.alibi is None:
            return self._finish(attend(q_BTHE, k_BTKE, v_BTKE, self.score_scale, causal=True), x_BTD)
        visible, bias = self._sight(x_BTD, padding_BT)
        return self._finish(attend(q_BTHE, k_BTKE, v_BTKE, self.score_scale, visible, bias=bias), x_BTD)

    def step(self, x_BTD: Float[Tensor, "B T D"], state: KeyValueCache) -> Float[Tensor, "B T D"]:
        T = x_BTD.size(1)
        start = state.advance(T)
        q_BTHE, k_BTKE, v_BTKE = self._project_turned(x_BTD, start)
        k_BKSE, v_BKSE = state.append(start, k_BTKE, v_BTKE)
        if T == 1:
            bias = self._bias(start, start + 1, x_BTD.device)
            bias_HS = None if bias is None else bias[:, 0]
            return self._finish(attend_one(q_BTHE, k_BKSE, v_BKSE, self.score_scale, bias_HS), x_BTD)
        if start == 0 and self.alibi is None:
            return self._finish(attend(q_BTHE, k_BTKE, v_BTKE, self.score_scale, causal=True), x_BTD)
        visible_TS, bias = lower_triangle(T, start, x_BTD.device), self._bias(start, start + T, x_BTD.device)
        k_BSKE, v_BSKE = k_BKSE.transpose(1, 2), v_BKSE.transpose(1, 2)
        return self._finish(attend(q_BTHE, k_BSKE, v_BSKE, self.score_scale, visible_TS, bias=bias), x_BTD)

    def remember(self, memory_BSD: Tensor, padding_BS: Tensor | None = None) -> Memory:
        return Memory(*self._project_memory(memory_BSD), None if padding_BS is None else ~padding_BS[:, None, None])

    def recall(self, x_BTD: Tensor, memory: Memory) -> Tensor:
        q_BTHE = self._project_queries(x_BTD)
        y_BTD = attend(q_BTHE, memory.keys_BSKE, memory.values_BSKE, self.score_scale, memory.visible_B11S)
        return self._finish(y_BTD, x_BTD)

    def memory_bytes(self, batch: int, source: int) -> int:
        return self._cache_bytes(batch, source)

    def weights(
        self, x_BTD: Tensor, memory_BSD: Tensor | None = None, padding_BT: Tensor | None = None
    ) -> Float[Tensor, "B H T S"]:
        if memory_BSD is not None:
            memory = self.remember(memory_BSD, padding_BT)
            q_BTHE = self._project_queries(x_BTD)
            return explicit_weights(q_BTHE, memory.keys_BSKE, self.score_scale, memory.visible_B11S)
        q_BTHE, k_BTKE, _ = self._project_turned(x_BTD)
        return explicit_weights(q_BTHE, k_BTKE, self.score_scale, *self._sight(x_BTD, padding_BT))

    def flops(self, tokens: int, source: int | None = None) -> int:
        mixed = 4 * tokens * (tokens if source is None else source) * self.width
        return self._projection_flops(tokens, source) + mixed

    def state_bytes(self, batch: int, context: int) -> int:
        return self._cache_bytes(batch, context)

    def _empty_state(self, batch: int, context: int) -> KeyValueCache:
        shape = (batch, self.kv_heads, context, self.head_size)
        return KeyValueCache(context, self._new(*shape), self._new(*shape))

    def _finish(self, y_BTD: Tensor, x_BTD: Tensor) -> Tensor:
        """Joins the heads; x is the input from which they were made."""
        return self._join(y_BTD)

    def _sight(self, x_BTD: Tensor, padding_BT: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Returns where tokens may look within x (None: everywhere), and what is added to scores (None: nothing)."""
        T = x_BTD.size(1)
        visible = None if padding_BT is None else ~padding_BT[:, None, None]
        if self.causal:
            past = lower_triangle(T, 0, x_BTD.device)
            visible = past if visible is None else visible & past
        return visible, self._bias(0, T, x_BTD.device)

    def _bias(self, start: int, end: int, device: torch.device) -> Tensor | None:
        """Returns (H, T, S) of the queries from `start` to `end` on all keys up to there."""
        if self.alibi is None:
            return None
        keys_S = torch.arange(end, device=device)
        bias_HTS: Tensor = self.alibi(keys_S[start:], keys_S)
        return bias_HTS


class SoftmaxAttention(DotProductAttention):
    """y = softmax(q kᵀ / √E) v (Vaswani et al. 2017, arXiv:1706.03762).

    With fewer heads of keys and values than of queries, H/K neighbouring queries share one (GQA, Ainslie et al. 2023,
    arXiv:2305.13245; MQA, Shazeer 2019, arXiv:1911.02150). `qk_norm` divides q and k by their root mean square and
    multiplies them by a gain (Dehghani et al. 2023, arXiv:2302.05442). `gate` puts y ⊙ sigmoid(W_gate x) before W_out
    (arXiv:2505.06708).

    Time O(T²·D); decode state 2·C·K·E values.
    """

    def __init__(self, spec: Softmax, hidden: int, context: int, causal: bool, position: Position) -> None:
        super().__init__(spec, hidden, context, causal, position)
        self.gate = nn.Linear(hidden, self.width, bias=spec.bias) if spec.gate else None
        self.gain_2E = nn.Parameter(torch.ones(2, self.head_size)) if spec.qk_norm else None

    def flops(self, tokens: int, source: int | None = None) -> int:
        gate = 2 * tokens * self.hidden * self.width if self.gate else 0
        return super().flops(tokens, source) + gate

    def _feature(self, qk_BTME: Tensor, heads: slice) -> Tensor:
        if self.gain_2E is None:
            return qk_BTME
        gain_ME = torch.cat((self.gain_2E[:1].expand(self.heads, -1), self.gain_2E[1:].expand(self.kv_heads, -1)))
        return F.rms_norm(qk_BTME, qk_BTME.shape[-1:], eps=1e-6) * gain_ME[heads]

    def _finish(self, y_BTD: Tensor, x_BTD: Tensor) -> Tensor:
        return self._join(y_BTD if self.gate is None else y_BTD * self.gate(x_BTD).sigmoid())
