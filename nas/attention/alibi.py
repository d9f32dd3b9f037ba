"""Defines ALiBi positions: each head lowers a score in proportion to the distance, at its own slope.

Shapes: T tokens, S tokens attended to, H heads.
"""

import math

import torch
from torch import Tensor, nn


def slopes(heads: int) -> list[float]:
    """Returns the slopes 2^(−8/n), 2^(−16/n), … for the largest n = 2^k ≤ `heads`, then every other slope of 2·n.

    Press et al. 2022 (arXiv:2108.12409); for head counts that are no power of two, the rule of its authors' code.
    """
    whole = 2 ** math.floor(math.log2(heads))
    first = [2.0 ** (-8 * (h + 1) / whole) for h in range(whole)]
    between = [2.0 ** (-4 * (h + 1) / whole) for h in range(0, 2 * whole, 2)]
    return first + between[: heads - whole]


class Alibi(nn.Module):
    """Computes −m_h · |t − s|, added to the scores of each head h. Without causality, distances count both ways."""

    slope_H11: Tensor

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.register_buffer("slope_H11", torch.tensor(slopes(heads))[:, None, None], persistent=False)

    def forward(self, queries_T: Tensor, keys_S: Tensor) -> Tensor:
        """Returns (H, T, S) for tokens at these positions. Leading dimensions, such as blocks, come before H."""
        distance = (queries_T[..., :, None] - keys_S[..., None, :]).abs()
        return -self.slope_H11 * distance[..., None, :, :]
