"""Computes dominance, hypervolume and the knee, over rows of objective values, with moocore.

Values are (N, M): N trials, M objectives; `goals` says "min" or "max" for each column.
"""

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.results import StudyRecord, TrialResult
from nas.samplers import point_sets

Floats = NDArray[np.float64]


def as_minimised(values_NM: ArrayLike, goals: Sequence[str]) -> Floats:
    """Returns the rows with every column to be made small. Raises ValueError on NaN, infinity or a wrong width."""
    values = np.asarray(values_NM, dtype=float)
    if values.ndim != 2 or values.shape[1] != len(goals):
        raise ValueError(f"expected rows of {len(goals)} objectives, got an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("objective values must be finite: drop failed trials before asking for a front")
    signed: Floats = values * np.array([1.0 if goal == "min" else -1.0 for goal in goals])
    return signed


def front(values_NM: ArrayLike, goals: Sequence[str]) -> list[int]:
    """Returns the indices of the non-dominated rows, in order. Of equal rows, only the first counts.

    Row a dominates b when it is nowhere worse and somewhere better. Raises ValueError on NaN.
    """
    values = as_minimised(values_NM, goals)
    if not len(values):
        return []
    return [int(i) for i in np.flatnonzero(moocore.is_nondominated(values))]


def front_of(record: StudyRecord) -> tuple[TrialResult, ...]:
    """Returns the non-dominated among the eligible trials (COMPLETE, feasible, finite), best first by the first
    objective. Trials that failed when they were trained with a new seed have lost their place.
    """
    failed = {number for number, confirmation in record.confirmed.items() if confirmation.failures}
    return _front([trial for trial in record.trials if trial.number not in failed], record)


def searched_front(record: StudyRecord) -> tuple[TrialResult, ...]:
    """Returns the front that the search found, whatever new seeds have shown since."""
    return _front(record.trials, record)


def _front(trials: Sequence[TrialResult], record: StudyRecord) -> tuple[TrialResult, ...]:
    rows = [(t, v) for t in trials if t.eligible and (v := t.values(record.objectives)) is not None]
    goals = [objective.goal for objective in record.objectives]
    return tuple(rows[i][0] for i in best_first([values for _, values in rows], goals))


def best_first(values: Sequence[Sequence[float]], goals: Sequence[str]) -> list[int]:
    """Returns the indices of the front, best first by the first objective. Raises ValueError on NaN."""
    chosen, sign = front(values, goals) if values else [], 1 if goals[0] == "min" else -1
    return sorted(chosen, key=lambda i: (sign * values[i][0], i))


def reference_point(values_NM: ArrayLike, goals: Sequence[str]) -> list[float]:
    """Returns a point that every row dominates: the worst of each column, a tenth of the range beyond it."""
    values = as_minimised(values_NM, goals)
    return _beyond(values.min(axis=0), values.max(axis=0), goals)


def _beyond(best_M: Floats, worst_M: Floats, goals: Sequence[str]) -> list[float]:
    """Returns the reference point of rows between these bounds, both minimised; the point itself is in the objectives'
    units.
    """
    signs = np.array([1.0 if goal == "min" else -1.0 for goal in goals])
    return [float(v) for v in point_sets.reference_point(best_M, worst_M) * signs]


def hypervolume(values_NM: ArrayLike, goals: Sequence[str], reference: Sequence[float]) -> float:
    """Returns the volume that the rows dominate, up to the reference point (in the objectives' units, multiplied)."""
    values = as_minimised(values_NM, goals)
    bound = as_minimised([list(reference)], goals)[0]
    return float(moocore.hypervolume(values, ref=bound)) if len(values) else 0.0


class GrowingFront:
    """Keeps the front of a set that grows by one row at a time, and the bounds of all its rows.

    A row costs one comparison with the front; with two objectives, one search in it. Equal rows count once.
    """

    def __init__(self, goals: Sequence[str]) -> None:
        self.goals = tuple(goals)
        self.rows_FM: Floats = np.empty((0, len(self.goals)))
        """The front, minimised, in ascending order of the first objective."""
        self._best_M, self._worst_M = np.full(len(goals), np.inf), np.full(len(goals), -np.inf)

    def __len__(self) -> int:
        return len(self.rows_FM)

    def add(self, values: Sequence[float]) -> bool:
        """Adds a row, and tells whether it enters the front; the rows that it dominates leave. Raises ValueError on
        NaN."""
        row_M = as_minimised([list(values)], self.goals)[0]
        self._best_M, self._worst_M = np.minimum(self._best_M, row_M), np.maximum(self._worst_M, row_M)
        near = self.around(row_M)
        rows_FM = self.rows_FM[near]
        if (rows_FM <= row_M).all(axis=1).any():
            return False
        kept_FM = rows_FM[~(rows_FM >= row_M).all(axis=1)]
        place = np.searchsorted(kept_FM[:, 0], row_M[0])
        parts = (self.rows_FM[: near.start], kept_FM[:place], row_M[None], kept_FM[place:], self.rows_FM[near.stop :])
        self.rows_FM = np.concatenate(parts)
        return True

    def around(self, row_M: Floats) -> slice:
        """Returns the rows of the front that decide about a new one. With two objectives these are its neighbours.

        With two objectives, the second falls as the first rises along the front. Hence the rows that the new one
        dominates stand side by side. What the rows beyond them dominate of its box, the next ones dominate too.
        """
        if len(self.goals) != 2:
            return slice(0, len(self.rows_FM))
        first = int(np.searchsorted(self.rows_FM[:, 0], row_M[0]))
        behind = int(np.searchsorted(-self.rows_FM[:, 1], -row_M[1], side="right"))
        return slice(max(min(first, behind) - 1, 0), min(max(first, behind) + 1, len(self.rows_FM)))

    def best(self) -> list[float]:
        """Returns the best value of each objective so far."""
        return [float(v if goal == "min" else -v) for v, goal in zip(self._best_M, self.goals, strict=True)]

    def reference_point(self) -> list[float]:
        """Returns what `reference_point` gives for all rows so far."""
        return _beyond(self._best_M, self._worst_M, self.goals)

    def hypervolume(self, reference: Sequence[float]) -> float:
        """Returns the volume that the front dominates, computed from its members alone."""
        bound_M = as_minimised([list(reference)], self.goals)[0]
        return float(moocore.hypervolume(self.rows_FM, ref=bound_M)) if len(self.rows_FM) else 0.0


class GrowingHypervolume:
    """Keeps the exact hypervolume of a set that grows by one row at a time, up to a fixed reference point.

    A row that enters the front adds its exclusive volume: the box from it to the reference point, less the part of that
    box which the front dominates already (While et al. 2012, A Fast Way of Calculating Exact Hypervolumes, §III).
    Rows that do not enter add nothing and cost no evaluation.
    """

    def __init__(self, goals: Sequence[str], reference: Sequence[float]) -> None:
        self.front, self.volume = GrowingFront(goals), 0.0
        self._bound_M = as_minimised([list(reference)], self.front.goals)[0]

    def add(self, values: Sequence[float]) -> float:
        """Returns the hypervolume with this row. Raises ValueError on NaN."""
        row_M, before_FM = as_minimised([list(values)], self.front.goals)[0], self.front.rows_FM
        near = self.front.around(row_M)
        if self.front.add(values) and (row_M < self._bound_M).all():
            self.volume += self._exclusive(row_M, before_FM[near])
        return self.volume

    def _exclusive(self, row_M: Floats, others_FM: Floats) -> float:
        """Returns the volume that the row dominates and the others do not."""
        box = float(np.prod(self._bound_M - row_M))
        shared_FM = np.maximum(others_FM, row_M)
        shared_FM = shared_FM[(shared_FM < self._bound_M).all(axis=1)]
        if not len(shared_FM):
            return box
        shared_FM = shared_FM[moocore.is_nondominated(shared_FM)]
        return max(0.0, box - float(moocore.hypervolume(shared_FM, ref=self._bound_M)))


def knee(values_NM: ArrayLike, goals: Sequence[str]) -> int | None:
    """Returns the row nearest to the best of every column at once, columns scaled to [0, 1] over the front.

    None if empty.
    """
    values = as_minimised(values_NM, goals)
    if not len(values):
        return None
    best, worst = values.min(axis=0), values.max(axis=0)
    scaled = (values - best) / np.where(worst > best, worst - best, 1.0)
    return int(np.argmin(np.linalg.norm(scaled, axis=1)))
