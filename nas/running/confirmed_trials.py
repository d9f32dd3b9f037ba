"""Chooses the trials that a confirmation trains again: the front within the limits, and those dominated by a little."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas import pareto
from nas.results import StudyRecord, TrialResult
from nas.study.limits import within

NEAR = 0.05
"""A dominated trial is near where it is dominated by no more than this share of the front's range."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Chosen:
    """Holds the front, best first by the first objective, and the near ones, the nearest first."""

    front: tuple[TrialResult, ...]
    near: tuple[TrialResult, ...]

    @property
    def trials(self) -> tuple[TrialResult, ...]:
        return (*self.front, *self.near)


def chosen(record: StudyRecord, where: Iterable[str] = ()) -> Chosen:
    """Returns the trials to confirm: the front within these limits (`--where`), and at most half as many near ones.

    Another seed may put a trial on the front, or take it away. A dominated trial is near where that takes no more than
    `NEAR`, by `distances`. The front is the searched one, even where a member has failed with a new seed since: so a
    confirmation that goes on has the same members. Raises NothingFeasible where no trial is on the front, and
    UsageError for a limit on an unknown metric.
    """
    record = within(record, where)
    front = pareto.searched_front(record)
    standing = {trial.number for trial in front}
    values = {t.number: v for t in record.trials if (v := t.values(record.objectives)) is not None}
    others = [trial for trial in record.trials if trial.number in values and trial.number not in standing]
    if not front or not others:
        return Chosen(front, ())
    goals = [objective.goal for objective in record.objectives]
    found = distances([values[t.number] for t in others], [values[t.number] for t in front], goals)
    ranked = sorted(zip(found, others, strict=True), key=lambda pair: (pair[0], pair[1].number))
    near = [trial for distance, trial in ranked if distance <= NEAR]
    return Chosen(front, tuple(near[: -(-len(front) // 2)]))


def distances(others: Sequence[Sequence[float]], front: Sequence[Sequence[float]], goals: Sequence[str]) -> list[float]:
    """Returns how far each of the others is from being non-dominated (the additive ε-indicator, Zitzler et al. 2003).

    ε is the least improvement in every objective at once after which no row of the front dominates it, in units of the
    objective's range over the front: max over f of min over i of (xᵢ − fᵢ) / rangeᵢ. Where the front has one value of
    an objective, the range is that of all rows.
    """
    front_FM, others_NM = pareto.as_minimised(front, goals), pareto.as_minimised(others, goals)
    range_M = np.ptp(front_FM, axis=0)
    range_M = np.where(range_M > 0, range_M, np.ptp(np.vstack([front_FM, others_NM]), axis=0))
    gaps_NFM = (others_NM[:, None] - front_FM[None]) / np.where(range_M > 0, range_M, 1.0)
    # In an objective of which all rows have one value, nobody is ahead: it decides nothing.
    gaps_NFM[:, :, range_M == 0] = np.inf
    return [max(0.0, float(distance)) for distance in gaps_NFM.min(axis=2).max(axis=1)]
