"""Joins several matrices in one."""

from torch import nn


class Stacked(nn.Linear):
    """Stacks matrices of the given heights that read the same input, so that one product serves all.

    They remain separate for an optimiser that treats a matrix as a whole: Muon learns more when it takes the rows of
    each by themselves (`weight.split(heights)`), and more still when it takes each head's (`head_rows` rows).
    """

    head_rows: int | None = None

    def __init__(self, width: int, heights: tuple[int, ...], bias: bool = False) -> None:
        super().__init__(width, sum(heights), bias=bias)
        self.heights = heights
