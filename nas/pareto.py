"""Dominance, hypervolume and the knee, over rows of objective values. moocore does the counting.

Values are (N, M): N trials, M objectives; `goals` says "min" or "max" for each column.
"""

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.results import StudyRecord, TrialResult

Floats = NDArray[np.float64]


def as_minimised(values_NM: ArrayLike, goals: Sequence[str]) -> Floats:
    """The same rows with every column to be made small. Raises ValueError on NaN, infinity or a wrong width."""
    values = np.asarray(values_NM, dtype=float)
    if values.ndim != 2 or values.shape[1] != len(goals):
        raise ValueError(f"expected rows of {len(goals)} objectives, got an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("objective values must be finite: drop failed trials before asking for a front")
    signed: Floats = values * np.array([1.0 if goal == "min" else -1.0 for goal in goals])
    return signed


def front(values_NM: ArrayLike, goals: Sequence[str]) -> list[int]:
    """Indices of the non-dominated rows, in order. Of equal rows the first alone counts.

    Row a dominates b when it is nowhere worse and somewhere better. Raises ValueError on NaN.
    """
    values = as_minimised(values_NM, goals)
    if not len(values):
        return []
    return [int(i) for i in np.flatnonzero(moocore.is_nondominated(values))]


def front_of(record: StudyRecord) -> tuple[TrialResult, ...]:
    """The non-dominated among the eligible trials (COMPLETE, feasible, finite), best first by the first objective."""
    rows = [(t, v) for t in record.trials if t.eligible and (v := t.values(record.objectives)) is not None]
    goals = [objective.goal for objective in record.objectives]
    chosen = [rows[i] for i in front([v for _, v in rows], goals)] if rows else []
    sign = 1 if goals[0] == "min" else -1
    return tuple(trial for trial, _ in sorted(chosen, key=lambda row: (sign * row[1][0], row[0].number)))


def reference_point(values_NM: ArrayLike, goals: Sequence[str]) -> list[float]:
    """A point that every row dominates: the worst of each column, a tenth of the range beyond it."""
    values = as_minimised(values_NM, goals)
    worst, best = values.max(axis=0), values.min(axis=0)
    span = np.where(worst > best, worst - best, np.maximum(np.abs(worst), 1e-9))
    signs = np.array([1.0 if goal == "min" else -1.0 for goal in goals])
    return [float(v) for v in (worst + 0.1 * span) * signs]


def hypervolume(values_NM: ArrayLike, goals: Sequence[str], reference: Sequence[float]) -> float:
    """The volume dominated by the rows and bounded by the reference point (in the objectives' units, multiplied)."""
    values = as_minimised(values_NM, goals)
    bound = as_minimised([list(reference)], goals)[0]
    return float(moocore.hypervolume(values, ref=bound)) if len(values) else 0.0


def knee(values_NM: ArrayLike, goals: Sequence[str]) -> int | None:
    """The row nearest to the best of every column at once, columns scaled to [0, 1] over the front. None if empty."""
    values = as_minimised(values_NM, goals)
    if not len(values):
        return None
    best, worst = values.min(axis=0), values.max(axis=0)
    scaled = (values - best) / np.where(worst > best, worst - best, 1.0)
    return int(np.argmin(np.linalg.norm(scaled, axis=1)))
