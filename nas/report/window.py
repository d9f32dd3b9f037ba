"""Chooses the part of an axis that a chart shows: all values, or those near the front where outliers would squeeze
it.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

LOG_SPAN = 30
"""An axis is logarithmic where its values span more than this factor."""
FENCE, WORTH = 3.0, 2.0
"""A value is an outlier when it lies this many interquartile ranges beyond the quartiles (Tukey 1977, "far out").
Outliers are left out only where the axis is this many times longer with them.
"""
MOST = 0.7
"""At least this share of the values is shown."""
FEWEST = 4
"""With fewer values, none is an outlier."""


@dataclass(frozen=True)
class Window:
    """Holds the shown part of an axis, from `low` to `high`, both values of trials. `log`: the axis is logarithmic."""

    low: float
    high: float
    log: bool
    under: int = 0
    over: int = 0
    """The numbers of values that lie below and above the window."""
    least: float = math.nan
    most: float = math.nan
    """The smallest and the largest of all values."""

    @classmethod
    def of(cls, values: Sequence[float], kept: Collection[float] = ()) -> Self:
        """Fits the window to the values; the values in `kept`, such as the front's, are always within.

        Raises ValueError when there is no value.
        """
        all_N = np.asarray(values, dtype=float)
        if not len(all_N):
            raise ValueError("an axis needs at least one value")
        inside_N, kept_K = all_N, np.asarray(list(kept), dtype=float)
        # One outlier hides another: look again without it, as long as most values stay.
        while len(fewer_N := inside_N[_inside(inside_N, kept_K)]) < len(inside_N) and len(fewer_N) >= MOST * len(all_N):
            inside_N = fewer_N
        low, high = float(inside_N.min()), float(inside_N.max())
        return cls(
            low=low,
            high=high,
            log=spans_decades(inside_N),
            under=int((all_N < low).sum()),
            over=int((all_N > high).sum()),
            least=float(all_N.min()),
            most=float(all_N.max()),
        )

    @property
    def whole(self) -> bool:
        """Tells whether every value is within."""
        return not self.under and not self.over

    def clamped(self, value: float) -> float:
        """Returns the value, or the nearest one that is shown."""
        return min(max(value, self.low), self.high)

    def limits(self, margin: float = 0.05) -> tuple[float, float]:
        """Returns where the axis begins and ends: a margin beyond the window, as a share of its length on paper."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        room = (high - low) * margin or abs(high) * 0.1 or 1.0
        return (math.exp(low - room), math.exp(high + room)) if self.log else (low - room, high + room)


def spans_decades(values: Sequence[float] | NDArray[np.float64]) -> bool:
    """Tells whether a logarithmic axis shows these values better. Raises ValueError when there is none."""
    low, high = float(np.min(values)), float(np.max(values))
    return low > 0 and high / low > LOG_SPAN


def _inside(values_N: NDArray[np.float64], kept_K: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tells which values are no outliers, or lie between those that are kept; all values where leaving out gains
    little.
    """
    log, everything = spans_decades(values_N), np.ones(len(values_N), dtype=bool)
    scaled_N, scaled_K = (np.log(values_N), np.log(kept_K)) if log else (values_N, kept_K)
    first, third = np.percentile(scaled_N, [25, 75])
    reach = FENCE * (third - first)
    if len(values_N) < FEWEST or not reach:
        return everything
    low, high = min([first - reach, *scaled_K]), max([third + reach, *scaled_K])
    inside = (scaled_N >= low) & (scaled_N <= high)
    return inside if np.ptp(scaled_N) > WORTH * np.ptp(scaled_N[inside]) else everything
