"""Defines one measured quantity with its spread and its intervals, and the readings by which a trial is judged.

Two uncertainties are told apart. *Within* a run, the interval of the median comes from order statistics of that run's
rounds: it tells whether the run was long enough. *Between* runs, it comes from the medians of several runs, minutes
apart: only this one tells what another measurement would show.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Self

import numpy as np

from nas.formatting import number, percent

ConditionName = Literal["interval", "pace", "load"]
CONFIDENCE = 0.95
FEWEST_ROUNDS = 6
"""Fewer independent values have no distribution-free 95 % interval of their median: 1 − 2 · 0.5⁵ is below 0.95."""
FEWEST_FOR_P95 = 59
"""Fewer readings do not bound their 95th percentile from above with a confidence of 95 %: 1 − 0.95⁵⁸ is below 0.95."""


@dataclass(frozen=True)
class Interval:
    """Holds the ends of an interval."""

    low: float
    high: float

    def half_width(self, middle: float) -> float:
        """Returns the larger distance of an end from `middle`, relative to it."""
        return max(self.high - middle, middle - self.low) / middle if middle else math.inf


@dataclass(frozen=True)
class Measurement:
    """Holds repeated readings of one quantity, given by median and spread.

    `within` is the interval of the median within this run; None where no rounds are told apart, or too few are.
    """

    median: float
    p10: float
    p90: float
    p95: float | None
    """From protocol 2 on an upper confidence bound (`upper_bound`); the plain percentile before."""
    count: int
    within: Interval | None = None

    @classmethod
    def of(cls, readings: Sequence[float]) -> Self:
        """Raises ValueError when there is no reading or one is not finite."""
        values = _checked(readings)
        median, p10, p90, p95 = np.percentile(values, [50, 10, 90, 95])
        return cls(float(median), float(p10), float(p90), float(p95), len(values))

    @classmethod
    def of_rounds(cls, rounds: Sequence[Sequence[float]]) -> Self:
        """Returns the measurement of rounds that did the same work, so that their medians are exchangeable.

        The readings of a round are not: a cache grows from one token to the next. So the median is that of the rounds'
        medians, and its interval comes from their order. Percentiles are those of all readings.
        Raises ValueError when there is no reading or one is not finite.
        """
        values = _checked([reading for readings in rounds for reading in readings])
        medians = sorted(float(np.median(readings)) for readings in rounds)
        p10, p90 = np.percentile(values, [10, 90])
        median, bound = float(np.median(medians)), upper_bound(values.tolist(), 0.95)
        return cls(median, float(p10), float(p90), bound, len(values), median_interval(medians))

    @property
    def precision(self) -> float:
        """Returns half the width of the interval within, relative to the median; infinite where there is none."""
        return self.within.half_width(self.median) if self.within else math.inf

    def metrics(self, name: str) -> dict[str, float]:
        """Returns the names and values that a trial stores: NAME, NAME_p10, NAME_p90, NAME_count, and where they are
        known NAME_p95, NAME_low and NAME_high.
        """
        told = {name: self.median, f"{name}_p10": self.p10, f"{name}_p90": self.p90, f"{name}_count": float(self.count)}
        if self.p95 is not None:
            told[f"{name}_p95"] = self.p95
        if self.within:
            told |= {f"{name}_low": self.within.low, f"{name}_high": self.within.high}
        return told


@dataclass(frozen=True)
class TimedMetrics:
    """Holds what measuring an architecture gives: metrics by name, and how they came about, as plain data for JSON.

    `measurement` has an entry for the workload of `[measure]`, named MAIN, and one for each target: its protocol
    (nas.measure.protocol), the conditions that were not met, and the readings (nas.readings). It is empty where the
    metrics do not come from our own measuring.
    """

    metrics: Mapping[str, float]
    measurement: Mapping[str, Any] = field(default_factory=dict)


DEPTHS = ("_start", "_middle", "_end")
"""The time of a token at the start, in the middle and at the end of a generation is stored with these endings."""
ENDINGS = ("_p10", "_p90", "_p95", "_count", "_best", "_low", "_high", *DEPTHS)
"""A measured metric has its spread, its interval and its depths stored under its name with these endings."""
MAIN = "measure"
"""Names the workload of `[measure]` beside those of the targets."""


@dataclass(frozen=True)
class Condition:
    """Names a condition of a measurement that was not met: the value found, and the limit that it is over.

    As NVIDIA's nvbench does, a measurement that ends without what it was to reach is kept, and what was missed is told.

    `interval`: half the width of the interval of a median, relative to it. `pace`: the time of a fixed loop, relative
    to the machine's best. `load`: the cores, or the share of the GPU, that other programs kept busy.
    """

    name: ConditionName
    value: float
    limit: float
    metric: str = ""

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> Self:
        """Returns a condition that `asdict` gave."""
        return cls(**stored)

    def __str__(self) -> str:
        match self.name:
            case "interval":
                return f"{self.metric} is known to ±{percent(self.value, 1)}, not to ±{percent(self.limit, 1)}"
            case "pace":
                return (
                    f"the machine ran at {number(self.value)} times its best loop time; {number(self.limit)} is allowed"
                )
            case "load":
                return (
                    f"other programs kept {number(self.value)} of a core or GPU busy; {number(self.limit)} is allowed"
                )


def missed(measurement: Mapping[str, Any]) -> list[str]:
    """Tells in words which conditions the measurements of a trial did not meet; those of a target behind its name."""
    return [
        f"{'' if workload == MAIN else f'{workload}: '}{Condition.from_stored(condition)}"
        for workload, told in measurement.items()
        for condition in told["conditions"]
    ]


def median_interval(values: Sequence[float]) -> Interval | None:
    """Returns the distribution-free 95 % interval of the median of exchangeable values; None of fewer than six.

    It is [x₍ₖ₎, x₍ₙ₊₁₋ₖ₎] with the largest k for which P(Binomial(n, ½) < k) ≤ 2.5 % (David and Nagaraja 2003, Order
    Statistics, §7.1). A run that stops as soon as this is narrow has somewhat less confidence, since it looks often.
    """
    k = _rank(len(values))
    ordered = sorted(values)
    return Interval(ordered[k - 1], ordered[len(values) - k]) if k else None


@lru_cache(maxsize=4096)
def _rank(n: int) -> int:
    """Returns the k of `median_interval`; 0 where there is none."""
    most, below, k = (1 - CONFIDENCE) / 2 * 2.0 ** min(n, 1000), 0, 0
    if n > 1000:  # beyond, the normal approximation is exact enough, and a float cannot hold 2ⁿ
        return int(n / 2 - 1.96 * math.sqrt(n) / 2)
    while (below := below + math.comb(n, k)) <= most:
        k += 1
    return k


def upper_bound(values: Sequence[float], quantile: float) -> float | None:
    """Returns a 95 % upper confidence bound of a quantile: the smallest order statistic that has it; None if none does.

    x₍ᵣ₎ with P(Binomial(n, q) < r) ≥ 95 % is one for independent readings of one distribution. Of readings whose
    distributions differ, by position, the bound is of their mixture and holds more surely (Hoeffding 1956, Annals of
    Mathematical Statistics 27).
    """
    n = len(values)
    log_q, log_p = math.log(quantile), math.log(1 - quantile)
    above, rank = 0.0, n + 1
    while rank > 1:
        i = rank - 1  # P(Binomial = i) joins the tail P(Binomial ≥ i)
        log_choose = math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
        above += math.exp(log_choose + i * log_q + (n - i) * log_p)
        if above > 1 - CONFIDENCE:
            break
        rank = i
    return sorted(values)[rank - 1] if rank <= n else None


def between_runs(medians: Sequence[float]) -> Interval | None:
    """Returns the 95 % interval of a time between runs, from the medians of k ≥ 2 runs minutes apart; None of fewer.

    exp(m ± t · s / √k) with mean m and standard deviation s of the logarithms, and t the quantile of Student's
    distribution with k − 1 degrees of freedom: what disturbs a time multiplies it. Raises ValueError for a median that
    is not above 0.
    """
    from scipy.stats import t  # a third of a second to load, which few need

    k = len(medians)
    if k < 2:
        return None
    if not all(0 < median < math.inf for median in medians):
        raise ValueError("a time is above 0 and finite")
    logs = np.log(medians)
    middle, error = float(logs.mean()), float(logs.std(ddof=1)) / math.sqrt(k)
    far = float(t.ppf((1 + CONFIDENCE) / 2, k - 1)) * error
    return Interval(math.exp(middle - far), math.exp(middle + far))


def with_later(first: Mapping[str, float], later: Mapping[str, float]) -> dict[str, float]:
    """Returns a trial's metrics with those of a later measurement in their place, spreads and all."""
    stale = {f"{name}{ending}" for name in later for ending in ENDINGS}
    return {**{name: value for name, value in first.items() if name not in stale}, **later}


def at_best_pace(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """Returns the metrics by which a trial is judged: the fastest readings, where other load disturbed the measurement.

    A busy machine makes a good architecture look slow, so such readings decide nothing for good.
    """
    if not metrics.get("contended"):
        return metrics
    best = {name: metrics[f"{name}_best"] for name in metrics if f"{name}_best" in metrics}
    return {**metrics, **best}


def _checked(readings: Sequence[float]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    values = np.asarray(readings, dtype=float)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("a measurement needs at least one reading, and finite ones")
    return values
