"""Computes Spearman's rank correlation with a bootstrap interval over architectures."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from nas.pareto import Floats

RESAMPLES = 2_000
LOW, HIGH = 0.025, 0.975
"""The quantiles of the resamples between which the interval lies."""


def spearman(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> dict[str, Any]:
    """Returns {rho, low, high}: the mean of Spearman's correlation over several pairs of columns, of N values each.

    The interval is the bootstrap's, of 95 % by percentiles: the same N architectures, drawn with replacement, for all
    pairs. A value of infinity ranks last. rho is None where a column is constant, or there are fewer than three
    architectures; low and high are None too where most resamples are constant.
    """
    x_PN, y_PN = (np.array([pair[side] for pair in pairs], dtype=float) for side in (0, 1))
    count = x_PN.shape[-1]
    if count < 3:
        return {"rho": None, "low": None, "high": None}
    rho = float(_correlation(x_PN, y_PN).mean())
    # The same draws in every call with as many architectures, so that figures repeat.
    drawn_BN = np.random.default_rng(count).integers(0, count, (RESAMPLES, count))
    rho_B = _correlation(x_PN[:, drawn_BN], y_PN[:, drawn_BN]).mean(axis=0)
    rho_B = rho_B[np.isfinite(rho_B)]
    known = math.isfinite(rho) and len(rho_B) > RESAMPLES / 2
    low, high = np.quantile(rho_B, (LOW, HIGH)).tolist() if known else (None, None)
    return {"rho": rho if math.isfinite(rho) else None, "low": low, "high": high}


def _correlation(x: Floats, y: Floats) -> Floats:
    """Correlates ranks along the last axis; NaN where one side is constant. Ties share their mean rank."""
    a, b = (rankdata(side, axis=-1) for side in (x, y))
    a, b = (ranks - ranks.mean(axis=-1, keepdims=True) for ranks in (a, b))
    size = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    found: Floats = np.where(size > 0, (a * b).sum(axis=-1) / np.where(size > 0, size, 1.0), np.nan)
    return found


def regret(chosen_by: Sequence[float], judged_by: Sequence[float]) -> float:
    """Returns how much worse the architecture with the lowest first value is, by the second one, than the best."""
    best = min(range(len(chosen_by)), key=lambda i: chosen_by[i])
    return judged_by[best] - min(judged_by)
