"""ALiBi positions: a score is lowered in proportion to the distance, at a slope of its own in each head.

Shapes: T tokens, S tokens attended to, H heads.
"""

import math

import torch
from torch import Tensor, nn


def slopes(heads: int) -> list[float]:
    """2^(−8/n), 2^(−16/n), … for the n = 2^k heads that are no more than `heads`; then every other one of 2·n.

    Press et al. 2022 (arXiv:2108.12409), as its authors' code does for other numbers than powers of two.
    """
    whole = 2 ** math.floor(math.log2(heads))
    first = [2.0 ** (-8 * (h + 1) / whole) for h in range(whole)]
    between = [2.0 ** (-4 * (h + 1) / whole) for h in range(0, 2 * whole, 2)]
    return first + between[: heads - whole]


class Alibi(nn.Module):
    """−m_h · |t − s| for each head h, to be added to its scores; without causality, distances count both ways."""

    slope_H11: Tensor

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.register_buffer("slope_H11", torch.tensor(slopes(heads))[:, None, None], persistent=False)

    def forward(self, queries_T: Tensor, keys_S: Tensor) -> Tensor:
        """(H, T, S) for tokens at these positions. Leading dimensions, such as blocks, come before H in the result."""
        distance = (queries_T[..., :, None] - keys_S[..., None, :]).abs()
        return -self.slope_H11 * distance[..., None, :, :]
