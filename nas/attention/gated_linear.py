"""Defines gated linear attention: a state that forgets at rates read from the data.

Shapes: B batch, T tokens, D hidden, H heads, E head size.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nas.attention.recurrent_form import LOWEST_LOG_DECAY, DecayingAttention
from nas.kinds import GatedLinear, Position

RANK = 16
"""The rank of the matrix that makes the gates, as in the paper."""

TEMPERATURE = 16
"""The root taken of each gate, as in the paper: a half-open gate still remembers for some 20 tokens."""


class GatedLinearAttention(DecayingAttention):
    """S_t = diag(α_t) S_{t−1} + k_t v_tᵀ, y_t = S_tᵀ q_t / √E, then W_out (swish(W_gate x_t) ⊙ norm(y_t)).

    Yang et al. 2024 (arXiv:2312.06635): each of a head's E features forgets at a rate computed from the token, α_t =
    sigmoid(W_2 W_1 x_t + b)^(1/16) with 16 rows in W_1. Ignored tokens add nothing and forget nothing.

    Where we differ: keys are as wide as values, not half; α_t ≥ exp(−2.5), so that no exponential overflows within a
    chunk; norm(y) = y / √(mean(y²) + ε) has no gain, since W_out can hold it; W_gate has no bias.

    Time O(T·(c + E)·D), in chunks of c tokens; decode state H·E² values, whatever the context.
    """

    def __init__(self, spec: GatedLinear, hidden: int, context: int, causal: bool, position: Position) -> None:
        super().__init__(spec, hidden, context, causal, position)
        self.forget_in = nn.Linear(hidden, RANK, bias=False)
        self.forget_out = nn.Linear(RANK, self.width)

    def flops(self, tokens: int, source: int | None = None) -> int:
        return super().flops(tokens, source) + 2 * tokens * RANK * (self.hidden + self.width)

    def _log_decay(self, x_BTD: Tensor, padding_BT: Tensor | None) -> Tensor:
        gate_BTD: Tensor = self.forget_out(self.forget_in(x_BTD))
        log_decay_BTD = (F.logsigmoid(gate_BTD) / TEMPERATURE).clamp(min=LOWEST_LOG_DECAY)
        if padding_BT is not None:
            log_decay_BTD = log_decay_BTD.masked_fill(padding_BT[..., None], 0)
        return log_decay_BTD.view(*x_BTD.shape[:2], self.heads, -1)
