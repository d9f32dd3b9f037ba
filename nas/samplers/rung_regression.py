"""Extrapolates a value at a rung to the end of training, as an observation for the surrogate: y_full ≈ a + ρ · y_rung.

So a trial that ended at a rung gives the sampler an observation, with the spread of the line as its noise. (The
stopping rule extrapolates rungs for another purpose: it bounds how good a curve may still become.)

The model is the first-order autoregressive one of Kennedy & O'Hagan 2000 (Biometrika 87, 1), from cheap to costly.
Trials that were trained to the end and passed that rung determine a and ρ; their residuals tell how reliable the line
is. Trials with an outlying value (nas.samplers.outliers) have no part in it.
"""

import math
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from nas.samplers.outliers import OutlierScale, scale_of
from nas.samplers.point_sets import Floats

FEWEST, FEWEST_FOR_SLOPE = 2, 5
STEEPEST = 1.5
LEAST_SPREAD = 1e-9


@dataclass(frozen=True)
class Line:
    """Holds a straight line. `spread` is the standard deviation of an extrapolated value.

    Values at the rung come to `rung_scale` first.
    """

    offset: float
    slope: float
    spread: float
    rung_scale: OutlierScale

    def at(self, value_N: Floats) -> Floats:
        """Returns the final values expected after these at the rung."""
        final_N: Floats = self.offset + self.slope * self.rung_scale.apply(value_N)
        return final_N


@dataclass(frozen=True)
class Moments:
    """Keeps running means and centred sums of pairs (x, y), by Welford's updates."""

    count: int = 0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0

    def with_pair(self, x: float, y: float) -> Self:
        count = self.count + 1
        dx, dy = x - self.x, y - self.y
        mean_x, mean_y = self.x + dx / count, self.y + dy / count
        return type(self)(
            count,
            mean_x,
            mean_y,
            self.xx + dx * (x - mean_x),
            self.xy + dx * (y - mean_y),
            self.yy + dy * (y - mean_y),
        )

    def line(self, rung_scale: OutlierScale) -> Line:
        """Fits least squares with a slope from 0 to STEEPEST; the slope is 1 while there are few pairs."""
        slope, freedom = 1.0, self.count - 1
        if self.count >= FEWEST_FOR_SLOPE and self.xx > 0:
            slope, freedom = min(max(self.xy / self.xx, 0.0), STEEPEST), self.count - 2
        residual = max(self.yy - 2 * slope * self.xy + slope**2 * self.xx, 0.0)
        return Line(self.y - slope * self.x, slope, max(math.sqrt(residual / freedom), LEAST_SPREAD), rung_scale)


@dataclass
class RungRegression:
    """Regresses final values of one objective on those at each rung, over trials that were trained to the end."""

    pairs: dict[float, list[tuple[float, float]]] = field(default_factory=dict)
    _lines: dict[float, tuple[int, Line | None]] = field(default_factory=dict)
    """Budget → the number of pairs, and the line through them."""

    def add(self, budget: float, value: float, final: float) -> None:
        """Takes in a trial that had `value` at that budget and ended at `final`."""
        self.pairs.setdefault(budget, []).append((value, final))

    def line(self, budget: float) -> Line | None:
        """Returns the line from values at that budget to final values; None with fewer than two usual trials."""
        pairs = self.pairs.get(budget, [])
        if self._lines.get(budget, (0, None))[0] != len(pairs):
            self._lines[budget] = len(pairs), _line(np.array(pairs))
        return self._lines.get(budget, (0, None))[1]


def _line(pairs_N2: Floats) -> Line | None:
    rung_scale, final_scale = (scale_of(column_N) for column_N in pairs_N2.T)
    moments = Moments()
    for value, final in pairs_N2.tolist():
        if not (rung_scale.outlying(value) or final_scale.outlying(final)):
            moments = moments.with_pair(value, final)
    return moments.line(rung_scale) if moments.count >= FEWEST else None
