"""Estimates how much training the search saved, and checks whether its bounds were right."""

import math
from dataclasses import dataclass
from typing import Self

from nas.reasons import Reason
from nas.results import Objective, State, StudyRecord, TrialResult

PROMISE = 0.02
"""At most this share of trials is better than the bound of a trained objective (nas.samplers.prediction_bound)."""


@dataclass(frozen=True)
class Effort:
    """Tells how much training was saved.

    Each of the last three fields counts trials, or draws, that would have been one training each.
    """

    stopped: int
    """The trials that ended at a rung."""
    trainings: float | None
    """The training that these did not need, in full trainings; None where the length of a full training is not
    recorded.
    """
    seconds: float | None
    """The training that these did not need in seconds, each trial at its own pace."""
    skipped: int
    """The trials never trained because even their optimistic bound was dominated."""
    infeasible: int
    """The trials never trained because they are over a limit that is known beforehand."""
    redraws: int | None
    """The proposals that the study held already, and that were drawn again; None where they were not counted."""

    @classmethod
    def of(cls, record: StudyRecord) -> Self:
        pruned = [trial for trial in record.trials if trial.state is State.PRUNED]
        stopped = [trial for trial in pruned if trial.rungs]
        untrained = [Reason.from_stored(trial.reason) for trial in pruned if not trial.rungs]
        redraws = [trial.redraws for trial in record.trials if trial.redraws is not None]
        steps = record.settings.get("train", {}).get("steps")
        left = [max(steps - trial.rungs[-1].step, 0) for trial in stopped] if steps else None
        return cls(
            stopped=len(stopped),
            trainings=None if left is None else sum(left) / steps,
            seconds=None if left is None else math.fsum(n * _pace(t) for n, t in zip(left, stopped, strict=True)),
            skipped=untrained.count(Reason.SKIPPED),
            infeasible=untrained.count(Reason.INFEASIBLE),
            redraws=sum(redraws) if redraws else None,
        )


@dataclass(frozen=True)
class BoundCheck:
    """Counts whether bounds held, over the trials that have one and were trained in full.

    Skipped trials have no result to compare, and stopped ones are mostly far from their bound.
    """

    trials: int
    missed: int
    """The trials with at least one trained objective better than its bound."""
    objectives: int
    """The number of trained objectives; the others are known exactly, so they are their own bounds."""

    @classmethod
    def of(cls, record: StudyRecord) -> Self:
        trained = [(i, o) for i, o in enumerate(record.objectives) if not o.means.cheap]
        bounded = [
            trial
            for trial in record.trials
            if trial.state is State.COMPLETE
            and len(trial.bound) == len(record.objectives)
            and trial.values(record.objectives) is not None
        ]
        missed = sum(any(_is_better(o, t.metrics[o.metric], t.bound[i]) for i, o in trained) for t in bounded)
        return cls(len(bounded) if trained else 0, missed, len(trained))


def _pace(trial: TrialResult) -> float:
    """Returns the seconds a step, over all that the trial trained."""
    return trial.rungs[-1].seconds / trial.rungs[-1].step


def _is_better(objective: Objective, value: float, bound: float) -> bool:
    return math.isfinite(bound) and (value < bound if objective.goal == "min" else value > bound)
