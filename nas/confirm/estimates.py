"""Estimates means with their 95 % intervals from few values: over seeds, over blocks of measurements, over members."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from nas.confirm.differences import ROUNDING, Floats, prior_freedom, shrunk

MISSED = 0.05
"""An interval misses the truth with this probability."""
FEWEST_RANKED = 4
"""With fewer pairs a rank correlation has no interval."""


@dataclass(frozen=True)
class Estimate:
    """Holds a mean with its 95 % interval; the bounds are None where one value alone says nothing of its spread."""

    mean: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def exact(cls, value: float) -> "Estimate":
        """Returns the estimate of what is computed, not sampled."""
        return cls(value, value, value)

    @property
    def half(self) -> float | None:
        """Returns the distance to the farther bound: the number behind ±."""
        if self.low is None or self.high is None:
            return None
        return max(self.mean - self.low, self.high - self.mean)

    def plain(self) -> dict[str, float | None]:
        return {"mean": self.mean, "low": self.low, "high": self.high}


def student(values: Sequence[float]) -> Estimate:
    """Returns mean ± t₀.₉₇₅ · s / √n with n − 1 degrees of freedom (Student 1908). Needs one value at least."""
    return by_member([values])[0]


def by_member(groups: Sequence[Sequence[float]], ratios: bool = False) -> list[Estimate]:
    """Returns Student's interval of each member's mean; members lend each other what they know of the spread.

    A member's variance is shrunk towards the pooled one, s̃² = (d₀s₀² + ds²) / (d₀ + d), and Student's t has d₀ + d
    degrees of freedom, at most as many as the pooled variance (Smyth 2004; see nas.confirm.differences). With `ratios`
    all of this is computed on logarithms: times vary by a share of themselves. Every group needs a value at least.
    """
    logs = ratios and all(value > 0 for group in groups for value in group)
    rows = [np.log(group) if logs else np.asarray(group, dtype=float) for group in groups]
    squares_M = np.array([squares_about_mean(row) for row in rows])
    freedom_M = np.array([len(row) - 1.0 for row in rows])
    total = float(freedom_M.sum())
    prior = prior_freedom(squares_M, freedom_M)
    found = []
    for row, squares, freedom in zip(rows, squares_M, freedom_M, strict=True):
        mean = float(row.mean())
        own = min(prior + float(freedom), total)
        if not own:
            found.append(Estimate(math.exp(mean) if logs else mean))
            continue
        variance = float(shrunk(squares, freedom, squares_M.sum() / total, prior))
        half = float(special.stdtrit(own, 1 - MISSED / 2)) * math.sqrt(variance / len(row))
        bounds = (mean, mean - half, mean + half)
        found.append(Estimate(*(math.exp(value) for value in bounds)) if logs else Estimate(*bounds))
    return found


def squares_about_mean(row: Floats) -> float:
    """Returns the sum of squared deviations from the mean; those that are rounding count as none."""
    apart = row - row.mean()
    return float((apart[np.abs(apart) > ROUNDING * np.abs(row).max()] ** 2).sum())


def spearman(pairs: Sequence[tuple[float, float]]) -> Estimate | None:
    """Returns the rank correlation ρ of pairs, with its interval over such pairs; None where a side is constant.

    The interval is tanh(artanh ρ ± 1.96 √((1 + ρ²/2) / (n − 3))) (Bonett and Wright 2000, Psychometrika 65).
    """
    if len(pairs) < FEWEST_RANKED or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    rho = float(np.corrcoef([ranks(side) for side in zip(*pairs, strict=True)])[0, 1])
    half = float(special.ndtri(1 - MISSED / 2)) * math.sqrt((1 + rho**2 / 2) / (len(pairs) - 3))
    centre = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, rho)))
    return Estimate(rho, math.tanh(centre - half), math.tanh(centre + half))


def ranks(values: Sequence[float]) -> Floats:
    """Returns the rank of each value, from 1; equal values share their mean rank. scipy.stats loads for a second."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared: Floats = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return shared


def between(estimate: float, draws_B: Floats) -> Estimate:
    """Returns a statistic with its interval from bootstrap draws, free of the bias that the draws show.

    Noise makes a front look better than it is. The draws repeat that: they lie above the estimate about as far as that
    lies above the truth. So it is 2θ̂ − mean of the draws, within 2θ̂ − their upper and lower quantiles (the basic
    interval of Davison and Hinkley 1997, §5.2).
    """
    low, high = np.quantile(draws_B, [MISSED / 2, 1 - MISSED / 2])
    return Estimate(2 * estimate - float(draws_B.mean()), 2 * estimate - float(high), 2 * estimate - float(low))
