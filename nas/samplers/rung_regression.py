"""Extrapolates a value at a rung to the end of training, as an observation for the surrogate: y_full ≈ a + ρ · y_rung.

So a trial that ended at a rung gives the sampler an observation, with the spread of the line as its noise. (The
stopping rule extrapolates rungs for another purpose: it bounds how good a curve may still become.)

The model is the first-order autoregressive one of Kennedy & O'Hagan 2000 (Biometrika 87, 1), from cheap to costly.
Trials that were trained to the end and passed that rung determine a and ρ; their residuals tell how reliable the line
is.
"""

import math
from dataclasses import dataclass, field
from typing import Self

FEWEST, FEWEST_FOR_SLOPE = 2, 5
STEEPEST = 1.5
LEAST_SPREAD = 1e-9


@dataclass(frozen=True)
class Line:
    """Holds a straight line. `spread` is the standard deviation of an extrapolated value."""

    offset: float
    slope: float
    spread: float


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

    def line(self) -> Line:
        """Fits least squares with a slope from 0 to STEEPEST; the slope is 1 while there are few pairs."""
        slope, freedom = 1.0, self.count - 1
        if self.count >= FEWEST_FOR_SLOPE and self.xx > 0:
            slope, freedom = min(max(self.xy / self.xx, 0.0), STEEPEST), self.count - 2
        residual = max(self.yy - 2 * slope * self.xy + slope**2 * self.xx, 0.0)
        return Line(self.y - slope * self.x, slope, max(math.sqrt(residual / freedom), LEAST_SPREAD))


@dataclass
class RungRegression:
    """Regresses final values of one objective on those at each rung, over trials that were trained to the end."""

    moments: dict[float, Moments] = field(default_factory=dict)

    def add(self, budget: float, value: float, final: float) -> None:
        """Takes in a trial that had `value` at that budget and ended at `final`."""
        self.moments[budget] = self.moments.get(budget, Moments()).with_pair(value, final)

    def line(self, budget: float) -> Line | None:
        """Returns the line from values at that budget to final values; None with fewer than two trials."""
        moments = self.moments.get(budget, Moments())
        return moments.line() if moments.count >= FEWEST else None
