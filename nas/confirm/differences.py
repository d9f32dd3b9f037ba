"""Tests which members differ in an objective, from values over the same seeds: a moderated t-test for each pair.

Shapes: M members, S seeds. NaN stands where a member has no value for a seed.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

NONE = 1e-9
"""Degrees of freedom below this are rounding, and none."""
ROUNDING = 1e-13
"""A residual below this share of the largest value is rounding: such trainings repeat exactly."""
LEAST_VARIANCE = 1e-5
"""A member's variance counts as this share of the pooled one at least: the logarithm of 0 would decide everything."""


@dataclass(frozen=True)
class Layout:
    """Fits value = member + seed + noise by least squares (the two-way layout of Fisher 1925).

    All members train with the same seeds. So what a seed does to every member alike cancels in their differences.
    Values that are not `paired`, such as times, have no such part: value = member + noise. Needs a value for each
    member and each seed.
    """

    values_MS: Floats
    paired: bool = True

    @cached_property
    def _fit(self) -> tuple[Floats, Floats, Floats]:
        """Returns the members' effects, the residuals (M, S) and their shares of the degrees of freedom (M, S)."""
        members, seeds = self.values_MS.shape
        member, seed = np.nonzero(~np.isnan(self.values_MS))
        design = np.zeros((len(member), members + seeds))
        design[np.arange(len(member)), member] = 1.0
        design[np.arange(len(member)), members + seed] = float(self.paired)
        left, sizes, right = np.linalg.svd(design, full_matrices=False)
        kept = sizes > sizes[0] * 1e-9  # members and seeds are one column too many
        left, sizes, right = left[:, kept], sizes[kept], right[kept]
        found = self.values_MS[member, seed]
        solution = right.T @ (left.T @ found / sizes)
        residual_MS, freedom_MS = np.zeros((members, seeds)), np.zeros((members, seeds))
        rest = found - design @ solution
        residual_MS[member, seed] = np.where(np.abs(rest) > ROUNDING * np.abs(found).max(), rest, 0.0)
        freedom_MS[member, seed] = 1.0 - (left**2).sum(axis=1)
        return solution[:members] + solution[members:].mean(), residual_MS, freedom_MS

    @property
    def means_M(self) -> Floats:
        """Returns each member's mean, as if it had been trained with every seed."""
        return self._fit[0]

    @cached_property
    def freedom(self) -> float:
        return float(self._fit[2].sum())

    @cached_property
    def variance(self) -> float:
        """Returns the variance of the noise, pooled over all members."""
        return float((self._fit[1] ** 2).sum()) / self.freedom

    @cached_property
    def prior_freedom(self) -> float:
        """Tells how many degrees of freedom the pooled variance is worth for one pair: many where members vary alike.

        Follows Smyth 2004 (Linear models and empirical Bayes methods, §6.2): the logarithms of the members' variances
        scatter more than those of chi-squared values would, or the pooled variance holds for all (infinity).
        """
        _, residual_MS, freedom_MS = self._fit
        return prior_freedom((residual_MS**2).sum(axis=1), freedom_MS.sum(axis=1))

    @cached_property
    def deviations_M(self) -> Floats:
        """Returns the standard deviation of each member's noise, shrunk towards the pooled one as in `Difference`."""
        _, residual_MS, freedom_MS = self._fit
        squares_M = (residual_MS**2).sum(axis=1)
        found_M: Floats = np.sqrt(shrunk(squares_M, freedom_MS.sum(axis=1), self.variance, self.prior_freedom))
        return found_M

    @cached_property
    def pool(self) -> Floats:
        """Returns all residuals, scaled to a mean square of 1; zeros where there is no noise."""
        _, residual_MS, freedom_MS = self._fit
        residuals = residual_MS[freedom_MS > NONE]
        size = float(np.sqrt((residuals**2).mean()))
        scaled: Floats = residuals / size if size > 0 else residuals
        return scaled


def prior_freedom(squares_M: Floats, freedom_M: Floats) -> float:
    """Returns Smyth's d₀ for sums of squares with these degrees of freedom, by the moments of log s²."""
    told = freedom_M > NONE
    squares_M, freedom_M = squares_M[told], freedom_M[told]
    if len(squares_M) < 2 or not squares_M.any():
        return np.inf
    half_M, pooled = freedom_M / 2, squares_M.sum() / freedom_M.sum()
    kept_M = np.maximum(squares_M / freedom_M, LEAST_VARIANCE * pooled)
    logs_M = np.log(kept_M) - special.digamma(half_M) + np.log(half_M)
    excess = float(logs_M.var(ddof=1) - special.polygamma(1, half_M).mean())
    return 2 * _inverse_trigamma(excess) if excess > 0 else np.inf


def shrunk(squares: ArrayLike, freedom: ArrayLike, pooled: float, prior: float) -> Floats:
    """Returns s̃² = (d₀s₀² + ds²) / (d₀ + d) for sums of squares ds²: the pooled variance s₀² counts as d₀ values."""
    squares_, freedom_ = np.asarray(squares, dtype=float), np.asarray(freedom, dtype=float)
    if np.isinf(prior):
        return np.full(freedom_.shape, pooled)
    found: Floats = (prior * pooled + squares_) / (prior + freedom_)
    return found


def _inverse_trigamma(value: float) -> float:
    """Solves trigamma(x) = value by Newton's method on 1 / trigamma, which only descends (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        found = float(special.polygamma(1, x))
        step = found * (1 - found / value) / float(special.polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return x


@dataclass(frozen=True)
class Difference:
    """Holds what is known of the difference of two members: mean, variance over the seeds, and its worth."""

    mean: float
    variance: float
    seeds: int
    freedom: float

    @classmethod
    def of(cls, layout: Layout, first: int, second: int) -> "Difference":
        """Compares two members over the seeds that both have, two at least.

        The variance is shrunk towards the pooled one, s̃² = (d₀·2s₀² + d·s²) / (d₀ + d) with d₀ + d degrees of freedom
        (Smyth 2004), and never more than the pooled variance has.
        """
        apart_S = layout.values_MS[first] - layout.values_MS[second]
        apart_S = apart_S[~np.isnan(apart_S)]
        own, prior = len(apart_S) - 1.0, layout.prior_freedom
        variance = float(shrunk(own * apart_S.var(ddof=1), own, 2 * layout.variance, prior))
        return cls(float(apart_S.mean()), variance, len(apart_S), min(prior + own, layout.freedom))

    @property
    def p(self) -> float:
        """Returns the two-sided p-value of "no difference", by Student's t."""
        if self.variance == 0.0:
            return float(self.mean == 0.0)
        t = self.mean / np.sqrt(self.variance / self.seeds)
        return float(2 * special.stdtr(self.freedom, -abs(t)))

    def power(self, most: int, error: float) -> float:
        """Returns the probability that a test at `error` finds the difference with `most` seeds, given these.

        This is predictive power (Spiegelhalter, Freedman and Blackburn 1986): the later mean is normal around this one,
        with variance s²(1/n − 1/most).
        """
        if self.seeds >= most or self.variance == 0.0:
            return 0.0
        later = self.freedom * (most - 1) / (self.seeds - 1)
        needed = special.stdtrit(later, 1 - error / 2) * np.sqrt(self.variance / most)
        spread = np.sqrt(self.variance * (1 / self.seeds - 1 / most))
        return float(special.stdtr(self.freedom, (abs(self.mean) - needed) / spread))
