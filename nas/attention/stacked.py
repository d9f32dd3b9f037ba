"""Several matrices in one."""

from torch import nn


class Stacked(nn.Linear):
    """Matrices of the given heights that read the same input, one above the other, so that one product serves all.

    They stay several: an optimiser that treats a matrix as a whole, like Muon, learns more when it takes the rows
    of each by themselves (`weight.split(heights)`).
    """

    def __init__(self, width: int, heights: tuple[int, ...], bias: bool = False) -> None:
        super().__init__(width, sum(heights), bias=bias)
        self.heights = heights
