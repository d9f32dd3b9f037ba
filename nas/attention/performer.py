"""Defines Performer attention: random features estimate softmax attention, at a cost linear in the context.

Shapes: B batch, T tokens, S tokens attended to, H heads, M = 2·H heads of queries and keys side by side, N any number
of heads, E head size, F random features.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.attention.kernel import KernelAttention
from nas.kinds import Performer, Position

SEED = 2009
"""The seed of the random directions: the same in every layer and run, so that a study can be repeated."""

FLOOR = 1e-18
"""Added to every feature (1e-6 in the authors' code): no query or key is without any, and no gradient overflows."""

LARGEST_EXPONENT = 60.0
"""The limit of a key's feature, so that sums of them stay within fp32. It is never above |ω|²/2: 47 in heads of 64."""


class PerformerAttention(KernelAttention):
    """y_t = Σ_s (φ(q_t) · φ(k_s)) v_s / Σ_s φ(q_t) · φ(k_s), over s ≤ t, with φ_f(x) = exp(ω_f · x' − |x'|²/2).

    FAVOR+ (Choromanski et al. 2021, arXiv:2009.14794): x' = x/E^¼, and the mean of φ(q) · φ(k) over random directions ω
    ~ N(0, I) is exp(q · k/√E), the softmax's weight. The directions are orthogonal in blocks of E, which lowers the
    error, and each is as long as a Gaussian vector. Heads share them; they are saved with the weights and never
    trained. Rotary positions turn q and k first.

    Where we differ: a query's features are divided by the largest of them, which cancels; keys are left as they are, so
    that no key depends on other tokens; the directions are drawn once.

    Time O(T·(c + F + E)·H·F), in chunks of c tokens; decode state H·F·(E + 1) values, whatever the context.
    """

    epsilon = 1e-30
    directions_FE: Tensor

    def __init__(self, spec: Performer, hidden: int, context: int, causal: bool, position: Position) -> None:
        super().__init__(spec, hidden, context, causal, position, features=spec.features)
        self.register_buffer("directions_FE", draw_directions(spec.features, self.head_size))

    def _placed_features(self, qk_BTME: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        q_BTHE, k_BTHE = self._turn(qk_BTME, start).chunk(2, dim=2)
        q_BTHF, k_BTHF = self._query_features(q_BTHE), self._key_features(k_BTHE)
        return q_BTHF, k_BTHF, q_BTHF, k_BTHF

    def _query_features(self, q_BTHE: Tensor) -> Tensor:
        """Leaves out |q'|²/2, which cancels as well."""
        exponent_BTHF = self._along_directions(q_BTHE)
        return (exponent_BTHF - exponent_BTHF.detach().amax(-1, keepdim=True)).exp() + FLOOR

    def _key_features(self, k_BSHE: Tensor) -> Tensor:
        half_square_BSH1 = k_BSHE.square().sum(-1, keepdim=True) / (2 * math.sqrt(self.head_size))
        return (self._along_directions(k_BSHE) - half_square_BSH1).clamp(max=LARGEST_EXPONENT).exp() + FLOOR

    def _along_directions(self, x_BTNE: Tensor) -> Tensor:
        """Computes ω · x', (B, T, N, F)."""
        return F.linear(x_BTNE, self.directions_FE * self.head_size**-0.25)

    def _feature_flops(self, vectors: int) -> int:
        return 2 * vectors * self.features * self.width


def draw_directions(features: int, head_size: int) -> Tensor:
    """Returns (F, E): rows orthogonal in blocks of E, each as long as an E-dimensional Gaussian vector."""
    generator = torch.Generator().manual_seed(SEED)
    blocks = -(-features // head_size)
    gaussian_NEE, lengths_NEE = torch.randn(2, blocks, head_size, head_size, generator=generator)
    unit_NEE, triangle_NEE = torch.linalg.qr(gaussian_NEE)
    # The factorisation prefers certain signs; without this correction the directions would not be uniform.
    unit_NEE = unit_NEE * triangle_NEE.diagonal(dim1=1, dim2=2).sign()[:, None]
    directions_NEE: Tensor = unit_NEE.mT * lengths_NEE.norm(dim=2, keepdim=True)
    return directions_NEE.flatten(0, 1)[:features].clone()
