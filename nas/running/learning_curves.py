"""Forecasts where a learning curve ends, with bounds, to decide which trials stop early.

Complete curves of the same study are the evidence. The stopping rule needs prediction bounds: how good may this trial
still become? (The sampler extrapolates rungs for another purpose: nas.samplers.rung_regression gives its surrogate one
more noisy observation, by a straight line for which two trials are enough.)

A curve at a rung is described by its value there and at the rung before. Let g be its remaining gain: the logarithm of
(end / value), or the difference where values may be 0 or below. For complete curves g is known. It is regressed on the
gain between the last two rungs; where there is no rung before, the mean is taken. For another curve this gives

    expected   the regression's value
    low, high  its one-sided 95 % prediction bounds (Student's t; Draper & Smith 1998, Applied Regression Analysis,
               section 1.4), which are wide while few curves are known or the own one is odd; and wider still where one
               of the curves that stood most alike (the nearest third, by value and last gain) gained more or less

The second part of the bounds is for curves of another shape: the forecast allows a late fall once it has seen such a
curve to its end.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Floats: TypeAlias = NDArray[np.float64]

FEWEST = 6
"""Nothing is forecast from fewer complete curves than this."""
CONFIDENCE = 0.95
ALIKE = 3
"""One in this many complete curves, the nearest ones, counts as similar."""
ROUNDING = 1e-9
"""Numbers that differ by no more than this share count as equal."""
LARGEST_LOGARITHM = 700.0
"""The largest logarithm of a float."""


class Curve(NamedTuple):
    """Holds one metric of one trial up to a rung."""

    before: float
    """The value at the rung before; NaN without one."""
    at: float


@dataclass(frozen=True)
class Forecast:
    """Holds a forecast of the value at the end."""

    expected: float
    low: float
    high: float


class CurveForecaster:
    """Forecasts the ends of curves that stand at one rung, from complete curves.

    `whole_N3`: for each complete curve, the value at the rung before, at the rung, and at the end. Curves with values
    that are not finite are left out.
    """

    def __init__(self, whole_N3: Floats) -> None:
        self.whole_N3 = whole_N3
        self._fits: dict[tuple[int, bool], _Fit | None] = {}

    def expected(self, curve: Curve) -> float | None:
        """Returns the expected end.

        None when there are fewer than FEWEST complete curves, or the curve's own value is not finite.
        """
        fit, own = self._fit(curve)
        return fit.value(own, fit.gain(own)) if fit else None

    def expected_ends(self, curve_N2: Floats) -> Floats:
        """Returns `expected` of many curves, (before, at) each; NaN where it is None."""
        end_N = np.full(len(curve_N2), math.nan)
        for first in (0, 1):  # with and without a rung before
            for positive in (True, False):
                chosen_N = np.isfinite(curve_N2[:, 1]) & (np.isfinite(curve_N2[:, 0]) == (first == 0))
                chosen_N &= (np.nanmin(curve_N2[:, first:], axis=1, initial=math.inf) > 0) == positive
                if chosen_N.any():
                    fit = self._fit(Curve(*curve_N2[chosen_N][0]))[0]
                    end_N[chosen_N] = fit.ends(curve_N2[chosen_N, first:]) if fit else math.nan
        return end_N

    def forecast(self, curve: Curve) -> Forecast | None:
        """Returns the forecast; None where `expected` is."""
        fit, own = self._fit(curve)
        if fit is None:
            return None
        gain, half, alike_N = fit.gain(own), fit.half(own), fit.alike(own)
        gains = (gain, min(gain - half, float(alike_N.min())), max(gain + half, float(alike_N.max())))
        return Forecast(*(fit.value(own, gain) for gain in gains))

    def _fit(self, curve: Curve) -> tuple["_Fit | None", Sequence[float]]:
        """Returns the regression that fits the curve, and the curve's own values in its scale."""
        if not math.isfinite(curve.at):
            return None, ()
        first = 0 if math.isfinite(curve.before) else 1
        own, logarithmic = curve[first:], min(curve[first:]) > 0
        if (first, logarithmic) not in self._fits:
            rows = self.whole_N3[np.isfinite(self.whole_N3[:, first:]).all(axis=1), first:]
            logs = logarithmic and bool((rows > 0).all())
            self._fits[first, logarithmic] = _Fit.of(rows, logs) if len(rows) >= FEWEST else None
        fit = self._fits[first, logarithmic]
        return fit, [math.log(value) for value in own] if fit and fit.logarithmic else own


@dataclass(frozen=True)
class _Fit:
    """Fits gains to last gains by regression, where there are any and they differ; curves have one or two values here.

    The N complete curves have D columns: the value, and the last gain where there is one.
    """

    logarithmic: bool
    at_ND: Floats
    gain_N: Floats
    mean: float
    slope: float
    mean_last: float
    spread: float
    """The sum of squares of the last gains; 0 means no regression."""
    deviation: float
    quantile: float

    @classmethod
    def of(cls, rows: Floats, logarithmic: bool) -> Self:
        rows = np.log(rows) if logarithmic else rows
        gain_N, last_N = rows[:, -1] - rows[:, -2], rows[:, -2] - rows[:, 0]
        count, mean, mean_last, spread, slope = len(rows), float(gain_N.mean()), float(last_N.mean()), 0.0, 0.0
        if np.ptp(last_N) > ROUNDING * np.abs(last_N).max():
            spread = float(((last_N - mean_last) ** 2).sum())
            slope = float(((last_N - mean_last) * gain_N).sum()) / spread
        freedom = count - (2 if spread else 1)
        residual_N = gain_N - mean - slope * (last_N - mean_last)
        deviation = math.sqrt(float((residual_N**2).sum()) / freedom)
        quantile = float(stdtrit(freedom, CONFIDENCE))
        at_ND = np.c_[rows[:, -2], last_N] if rows.shape[1] == 3 else rows[:, :1]
        return cls(logarithmic, at_ND, gain_N, mean, slope, mean_last, spread, deviation, quantile)

    def gain(self, own: Sequence[float]) -> float:
        """Returns the gain that is expected from the curve's last value on."""
        return self.mean + self.slope * (own[-1] - own[0] - self.mean_last)

    def half(self, own: Sequence[float]) -> float:
        """Returns half the width of the prediction interval."""
        leverage = (own[-1] - own[0] - self.mean_last) ** 2 / self.spread if self.spread else 0.0
        return self.quantile * self.deviation * math.sqrt(1 + 1 / len(self.gain_N) + leverage)

    def alike(self, own: Sequence[float]) -> Floats:
        """Returns the gains of the most similar third of the curves, FEWEST at least; each column counts in units of
        its spread.
        """
        own_D = np.array([own[-1], own[-1] - own[0]][: self.at_ND.shape[1]])
        spread_D = self.at_ND.std(axis=0)
        distance_N = (((self.at_ND - own_D) / np.where(spread_D > 0, spread_D, 1.0)) ** 2).sum(axis=1)
        nearest = np.argsort(distance_N, kind="stable")[: max(FEWEST, math.ceil(len(self.gain_N) / ALIKE))]
        found: Floats = self.gain_N[nearest]
        return found

    def value(self, own: Sequence[float], gain: float) -> float:
        """Returns the end in its own unit."""
        end = own[-1] + gain
        return math.exp(min(end, LARGEST_LOGARITHM)) if self.logarithmic else end

    def ends(self, own_ND: Floats) -> Floats:
        """Returns `value(own, gain(own))` of many curves, in their own unit."""
        own_ND = np.log(own_ND) if self.logarithmic else own_ND
        gain_N = self.mean + self.slope * (own_ND[:, -1] - own_ND[:, 0] - self.mean_last)
        end_N: Floats = own_ND[:, -1] + gain_N
        return np.exp(np.minimum(end_N, LARGEST_LOGARITHM)) if self.logarithmic else end_N
