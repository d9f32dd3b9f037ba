"""Summarises a study once, for figures and page: the front, its knee, how each trial ended."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Self

from nas import intervals, pareto
from nas.confirm.certainty import Certainty
from nas.report.window import Window
from nas.results import Objective, State, StudyRecord, TrialResult


class Role(StrEnum):
    """Names how a trial ended, as the figures tell it."""

    FRONT = "front"
    DOMINATED = "dominated"
    INFEASIBLE = "infeasible"
    STOPPED = "stopped"
    """The trial ended at a rung, because it could no longer reach the front."""
    FAILED = "failed"
    UNMEASURED = "unmeasured"
    """The trial was trained, but lacks a finite value of some objective."""
    SKIPPED = "skipped"
    """The trial was proposed, and never trained."""
    OPEN = "open"


DRAWN = (Role.FRONT, Role.DOMINATED, Role.STOPPED, Role.INFEASIBLE, Role.FAILED)
"""Charts show the trials with these roles."""


@dataclass(frozen=True)
class HypervolumeHistory:
    """Holds the hypervolume after each trained trial, in order of finish."""

    reference: tuple[float, ...]
    seconds: tuple[float, ...]
    """The time since the start during which a driver worked; a night between two launches is left out."""
    volumes: tuple[float, ...]


@dataclass(frozen=True)
class Summary:
    record: StudyRecord
    front: tuple[TrialResult, ...]
    roles: dict[int, Role]
    knee: int | None
    """The trial number of the front's knee; a front of one trial has none."""

    @classmethod
    def of(cls, record: StudyRecord) -> Self:
        front = pareto.front_of(record)
        members = {trial.number for trial in front}
        roles = {trial.number: _role(trial, record, members) for trial in record.trials}
        values = [[trial.metrics[objective.metric] for objective in record.objectives] for trial in front]
        knee = pareto.knee(values, [objective.goal for objective in record.objectives]) if front else None
        return cls(record, front, roles, front[knee].number if knee is not None and len(front) > 1 else None)

    @cached_property
    def certainty(self) -> Certainty | None:
        """Returns how sure the front is; None where no trial was trained again."""
        return Certainty.of(self.record)

    @property
    def axes(self) -> tuple[Objective, ...]:
        """Returns the axes of the charts: the objectives; a single objective is drawn over the order of the trials."""
        objectives = self.record.objectives
        return objectives if len(objectives) > 1 else (*objectives, Objective("trial", "min"))

    def value(self, trial: TrialResult, axis: Objective) -> float | None:
        """Returns the trial's value on that axis; None where it has no finite one."""
        value = float(trial.number) if axis.metric == "trial" else trial.metrics.get(axis.metric, math.nan)
        return value if math.isfinite(value) else None

    def window(self, axis: Objective, trials: Sequence[TrialResult]) -> Window:
        """Returns the part of an axis that a chart of these trials shows. Raises ValueError when none has a value
        there."""
        values = [value for trial in trials if (value := self.value(trial, axis)) is not None]
        front = {trial.number for trial in self.front}
        kept = [
            v for t in trials if axis.metric == "trial" or t.number in front if (v := self.value(t, axis)) is not None
        ]
        return Window.of(values, kept)

    def with_role(self, *roles: Role) -> list[TrialResult]:
        return [trial for trial in self.record.trials if self.roles[trial.number] in roles]

    @property
    def eligible(self) -> list[TrialResult]:
        return self.with_role(Role.FRONT, Role.DOMINATED)

    @cached_property
    def history(self) -> HypervolumeHistory | None:
        """Returns the hypervolume over the search; None while no trial is eligible for the front."""
        objectives = self.record.objectives
        goals = [objective.goal for objective in objectives]
        known = [v for t in self.record.trials if t.eligible and (v := t.values(objectives)) is not None]
        if not known:
            return None
        windows = [self.window(objective, self.eligible) for objective in objectives]
        # One value far out would make all that the search gained look like nothing.
        usual = [[window.clamped(v) for window, v in zip(windows, values, strict=True)] for values in known]
        reference = pareto.reference_point(usual, goals)
        growing, volumes = pareto.GrowingHypervolume(goals, reference), list[float]()
        trained = sorted((t for t in self.record.trials if t.trained), key=lambda t: (t.finished or 0.0, t.number))
        for trial in trained:
            found = trial.values(objectives) if trial.eligible else None
            volumes.append(growing.volume if found is None else growing.add(found))
        busy = intervals.seconds_before(self.record.working, [trial.finished or 0.0 for trial in trained])
        return HypervolumeHistory(tuple(reference), tuple(busy), tuple(volumes))

    @property
    def busy_seconds(self) -> float:
        """Returns the time during which drivers worked on the study; pauses between launches are left out."""
        return intervals.seconds(self.record.working)


def _role(trial: TrialResult, record: StudyRecord, front: set[int]) -> Role:
    if trial.number in front:
        return Role.FRONT
    match trial.state:
        case State.FAIL:
            return Role.FAILED
        case State.RUNNING | State.WAITING:
            return Role.OPEN
        case _ if not trial.feasible:
            return Role.INFEASIBLE
        case State.COMPLETE:
            return Role.UNMEASURED if trial.values(record.objectives) is None else Role.DOMINATED
        case _:
            return Role.STOPPED if trial.trained else Role.SKIPPED
