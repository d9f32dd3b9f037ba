"""Defines differential attention: a second attention map is subtracted from the first.

Shapes: B batch, T tokens, S tokens attended to, D hidden, H heads of queries, keys and values, M = 2·H, E head size, J
= E / 2 half a head.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nas.attention.rotary import Rotary
from nas.attention.softmax import DotProductAttention
from nas.kinds import Differential, Position


class DifferentialAttention(DotProductAttention):
    """y = (1 − λ₀) · gain · rmsnorm((A₁ − λ A₂) v) per head, A_i = softmax(q_i k_iᵀ / √(E/2)) of half i of q and k.

    Ye et al. 2024 (arXiv:2410.05258). λ = exp(a₁ · b₁) − exp(a₂ · b₂) + λ₀, with learned vectors a_i and b_i of size
    E/2 in each layer, drawn from N(0, 0.1²). One gain of size E serves all heads. Where we differ: λ₀ is a field, equal
    at every depth, where the paper has 0.8 − 0.6 · exp(−0.3 · depth). Rotary positions turn each half by itself.

    Time O(T²·D), twice that of softmax; decode state 2·C·H·E values.
    """

    half_2E: Tensor

    def __init__(self, spec: Differential, hidden: int, context: int, causal: bool, position: Position) -> None:
        super().__init__(spec, hidden, context, causal, position)
        half = self.head_size // 2
        self.subtracted, self.score_scale = spec.subtracted, 1 / math.sqrt(half)
        if position == "rope":
            self.rotary = Rotary(half, context)
        self.vectors_22J = nn.Parameter(torch.randn(2, 2, half) * 0.1)
        self.gain_E = nn.Parameter(torch.ones(self.head_size))
        self.register_buffer("half_2E", torch.eye(2).repeat_interleave(half, dim=1), persistent=False)

    def weights(
        self, x_BTD: Tensor, memory_BSD: Tensor | None = None, padding_BT: Tensor | None = None
    ) -> Float[Tensor, "B H T S"]:
        """Returns A₁ − λ A₂: some weights are below 0, and those of a query sum to 1 − λ."""
        maps_BMTS = super().weights(x_BTD, memory_BSD, padding_BT)
        return self._subtract(maps_BMTS[:, ::2], maps_BMTS[:, 1::2])

    def flops(self, tokens: int, source: int | None = None) -> int:
        mixed = 8 * tokens * (tokens if source is None else source) * self.width
        return self._projection_flops(tokens, source) + mixed

    def _project_turned(self, x_BTD: Tensor, start: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        q_BTHE, k_BTHE, v_BTHE = super()._project_turned(x_BTD, start)
        return self._in_halves(q_BTHE), k_BTHE, v_BTHE

    def _project_queries(self, x_BTD: Tensor) -> Tensor:
        return self._in_halves(super()._project_queries(x_BTD))

    def _turn(self, qk_BTME: Tensor, start: int = 0) -> Tensor:
        return super()._turn(qk_BTME.view(*qk_BTME.shape[:2], -1, self.head_size // 2), start).view_as(qk_BTME)

    def _bias(self, start: int, end: int, device: torch.device) -> Tensor | None:
        bias_HTS = super()._bias(start, end, device)
        return None if bias_HTS is None else bias_HTS.repeat_interleave(2, dim=0)

    def _finish(self, y_BTX: Tensor, x_BTD: Tensor) -> Tensor:
        y_BTME = y_BTX.view(*y_BTX.shape[:2], 2 * self.heads, self.head_size)
        y_BTHE = self._subtract(y_BTME[:, :, ::2], y_BTME[:, :, 1::2])
        gain_E = self.gain_E * (1 - self.subtracted)
        return self._join(F.rms_norm(y_BTHE, (self.head_size,), gain_E, eps=1e-5).flatten(2))

    def _in_halves(self, q_BTHE: Tensor) -> Tensor:
        """Returns [q₁, 0] and [0, q₂] of each head, (B, T, M, E), so that one call serves both halves.

        A quarter of all products is with zeros. But halves by themselves are narrower than the values, which the fused
        kernel does not take: 512 tokens of 4 heads of 32 took 26 ms forward and backward on one CPU thread, these 17.
        """
        return (q_BTHE[..., None, :] * self.half_2E).flatten(2, 3)

    def _subtract(self, first: Tensor, second: Tensor) -> Tensor:
        """Computes first − λ · second."""
        exp_2 = (self.vectors_22J[:, 0] * self.vectors_22J[:, 1]).sum(-1).exp()
        return first - (exp_2[0] - exp_2[1] + self.subtracted) * second
