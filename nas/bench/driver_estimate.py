"""Estimates the overhead of a trial from the times at which the trials of several runs end."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

WARM = 10
"""The first trials of a run that are not timed: workers still start beside them."""


def pace(ends_s: Sequence[float], cpu_s: Sequence[float]) -> dict[str, float]:
    """Returns the seconds a trial of one run, and its start-up told apart.

    `ends_s` are the seconds from the start of the process to the end of each trial, `cpu_s` the CPU seconds that the
    driver's process had used by then. The slope is the median of the slopes between all pairs of ends (Theil 1950, Sen
    1968), without the first WARM. So pauses of other programs during less than 29 % of a run leave it as it is. It is
    never negative, since the ends rise. `startup_seconds` last until the first trial has ended.
    """
    numbers = np.arange(WARM, len(ends_s))
    wall, cpu = (stats.theilslopes(values[WARM:], numbers).slope for values in (np.sort(ends_s), np.sort(cpu_s)))
    return {
        "seconds_per_trial": float(wall),
        "driver_cpu_seconds_per_trial": float(cpu),
        "startup_seconds": float(min(ends_s)),
    }


def overheads(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns, over the pairs: for ours and stock the seconds a trial, and the `ratio` of stock to ours.

    Each has its geometric mean, and the interval `low` to `high` that holds it with 95 % (Student's t on the
    logarithms of the runs, or of the ratios within the pairs). One pair has no interval: both bounds are None.
    """
    slopes = {who: [row["seconds_per_trial"] for row in rows if row["who"] == who] for who in ("ours", "stock")}
    by_pair = {(row["pair"], row["who"]): row["seconds_per_trial"] for row in rows}
    pairs = sorted({pair for pair, _ in by_pair})
    ratios = [by_pair[pair, "stock"] / by_pair[pair, "ours"] for pair in pairs]
    told: dict[str, Any] = {}
    for who, found in slopes.items():
        told[f"{who}_seconds_per_trial"] = with_interval(found)
        for key in ("driver_cpu_seconds_per_trial", "startup_seconds", "ending_seconds"):
            told[f"{who}_{key}"] = float(np.median([row[key] for row in rows if row["who"] == who]))
    return told | {"ratio": with_interval(ratios)}


def with_interval(values: Sequence[float]) -> dict[str, float | None]:
    """Returns the geometric mean of positive values, and its 95 % interval."""
    logs = np.log(values)
    mean = float(np.exp(logs.mean()))
    if len(values) < 2:
        return {"mean": mean, "low": None, "high": None}
    reach = math.exp(stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)))
    return {"mean": mean, "low": mean / reach, "high": mean * reach}
