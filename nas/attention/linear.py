"""Defines linear attention: a sum replaces the softmax, so a state of fixed size remembers every token.

Shapes: B batch, T tokens, S tokens attended to, H heads, M = 2·H heads of queries and keys side by side, E head size.
"""

import torch.nn.functional as F
from torch import Tensor

from nas.attention.kernel import KernelAttention


class LinearAttention(KernelAttention):
    """y_t = Σ_s (R_t φ(q_t) · R_s φ(k_s)) v_s / Σ_s φ(q_t) · φ(k_s), over s ≤ t, with φ = ELU + 1.

    Katharopoulos et al. 2020 (arXiv:2006.16236). Rotary positions R turn the numerator alone, as in Su et al. 2021
    (arXiv:2104.09864, §3.3). So the divisor stays positive, though turned weights may be negative.

    Time O(T·(c + E)·D), in chunks of c tokens; decode state H·E·(E + 1) values, whatever the context.
    """

    epsilon = 1e-6

    def _placed_features(self, qk_BTME: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features_BTME = _positive(qk_BTME)
        placed_q_BTHE, placed_k_BTHE = self._turn(features_BTME, start).chunk(2, dim=2)
        q_BTHE, k_BTHE = features_BTME.chunk(2, dim=2)
        return placed_q_BTHE, placed_k_BTHE, q_BTHE, k_BTHE

    def _query_features(self, q_BTHE: Tensor) -> Tensor:
        return _positive(q_BTHE)

    def _key_features(self, k_BSHE: Tensor) -> Tensor:
        return _positive(k_BSHE)


def _positive(x_BTNE: Tensor) -> Tensor:
    return F.elu(x_BTNE) + 1
