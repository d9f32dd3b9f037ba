"""Compares two methods on the same examples, example by example."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """Tells how much larger the mean of some scores is than that of others of the same examples, with the 95 %
    interval."""

    difference: float
    low: float
    high: float


def difference(scores: Sequence[float], others: Sequence[float], resamples: int = 10_000) -> Difference:
    """Computes the paired bootstrap (Efron and Tibshirani 1993, §13.3; for texts Koehn 2004).

    Examples are drawn with replacement, both scores of each together; the interval holds the middle 95 % of the means'
    differences.
    """
    import numpy as np
    from scipy.stats import bootstrap

    apart_N = np.asarray(scores) - np.asarray(others)
    mean = float(apart_N.mean())
    if len(apart_N) < 2:
        return Difference(mean, mean, mean)
    batch = max(1, 10**7 // len(apart_N))
    found = bootstrap(
        (apart_N,), np.mean, n_resamples=resamples, batch=batch, method="percentile", random_state=0
    ).confidence_interval
    return Difference(mean, float(found.low), float(found.high))
