"""Defines retention: decay by age replaces the softmax.

Shapes: B batch, T tokens, D hidden, H heads.
"""

import torch
from torch import Tensor

from nas.attention.recurrent_form import DecayingAttention
from nas.kinds import Position, Retention


class RetentionAttention(DecayingAttention):
    """y_t = Σ_{s ≤ t} γ_h^{t−s} ((R_t q_t) · (R_s k_s) / √E) v_s, then W_out (swish(W_gate x_t) ⊙ norm(y_t)).

    Sun et al. 2023 (arXiv:2307.08621): heads forget at different rates, γ_h = 1 − 2^(−5−h) for h = 0, 1, …, which halve
    a weight in 22, 44, 88, … tokens; fewer heads have the first of these. Ignored tokens add nothing but keep their
    place, so that the distance of the tokens around them does not change.

    Where we differ: values are as wide as keys, not twice. norm(y) = y / √(mean(y²) + ε) in each head replaces
    GroupNorm, without removal of the mean and without a gain, which W_out can hold. The paper's other divisors are left
    out, as the norm undoes them.

    Time O(T·(c + E)·D), in chunks of c tokens; decode state H·E² values, whatever the context.
    """

    log_decay_11H1: Tensor

    def __init__(self, spec: Retention, hidden: int, context: int, causal: bool, position: Position) -> None:
        super().__init__(spec, hidden, context, causal, position)
        lost_H = 2 ** (-5 - torch.arange(self.heads, dtype=torch.float64))
        log_decay_11H1 = torch.log1p(-lost_H).to(torch.get_default_dtype())[None, None, :, None]
        self.register_buffer("log_decay_11H1", log_decay_11H1, persistent=False)

    def _log_decay(self, x_BTD: Tensor, padding_BT: Tensor | None) -> Tensor:
        return self.log_decay_11H1.expand(-1, x_BTD.size(1), -1, -1)
