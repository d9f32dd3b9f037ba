"""Defines cosine attention: similarity by angle alone.

Shapes: B batch, T tokens, H heads, K heads of keys and values, M = H + K, E head size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.attention.softmax import DotProductAttention
from nas.kinds import Cosine, Position


class CosineAttention(DotProductAttention):
    """y = softmax(τ · q̂ k̂ᵀ) v, with q̂, k̂ of unit length, τ learned per head (Henry et al. 2020, arXiv:2010.04245).

    τ starts at log2(C² − C) for the context C, as in the paper. Where we differ: τ is learned per head, in log space so
    that it stays positive, and rotary positions turn q̂ and k̂, which keeps their length.

    Time O(T²·D); decode state 2·C·K·E values.
    """

    score_scale = 1.0

    def __init__(self, spec: Cosine, hidden: int, context: int, causal: bool, position: Position) -> None:
        super().__init__(spec, hidden, context, causal, position)
        start = math.log2(max(2, context * context - context))
        self.log_temperature_H = nn.Parameter(torch.full((spec.heads,), math.log(start)))

    def _feature(self, qk_BTME: Tensor, heads: slice) -> Tensor:
        # Queries get the length τ and keys the length 1 = exp(0), in one pass; the kernel then needs no scale.
        length_M1 = F.pad(self.log_temperature_H, (0, self.kv_heads)).exp()[heads, None]
        norm_BTM1: Tensor = torch.linalg.vector_norm(qk_BTME, dim=-1, keepdim=True)
        return qk_BTME * (length_M1 / norm_BTM1.clamp_min(1e-12))
