"""Computes hypervolume over seconds from time lines of finished trials, without a clock and without training.

    values as first told   →  which trials ever stood on the running front of their line
    re-trained values      →  the hypervolume of those architectures, after each finish

So a trial that owed its place to a lucky measurement still counts, but with its architecture's true values.

The volume is that of log-scaled objectives, in units of the reference point. An objective to minimise counts as
log(value / reference), one to maximise as log(reference / value), and the reference is 0 on every axis. A value that is
no better than the reference adds nothing. One better by more than a factor of MOST counts as that factor, since the
logarithm of a cost of 0 has no bound.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from nas import pareto
from nas.results import Constraint, Objective

MOST = 1000.0
SAME = 1e-9
"""Members that add nothing change a computed volume, by rounding, by less than this share."""

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Finish:
    """Holds a fully trained trial, known to its driver so many seconds after the run's process was started."""

    seconds: float
    key: str
    """The architecture's id, and the learning rate where that is searched (nas.running.proposer.key_of)."""
    metrics: Metrics
    """The metrics as first told."""


Lines = Mapping[str, Sequence[Sequence[Finish]]]
"""Maps each name to its runs, one a seed: their finished trials in order of time."""


@dataclass(frozen=True)
class Scale:
    """Scales objectives by `reference`: for each, the value from which on it counts, in its own unit."""

    objectives: Sequence[Objective]
    constraints: Sequence[Constraint]
    reference: Metrics

    @property
    def goals(self) -> list[str]:
        return [objective.goal for objective in self.objectives]

    def values(self, metrics: Metrics) -> list[float] | None:
        """Returns the objectives in order; None where a limit is exceeded or a value is missing or not finite."""
        values = [metrics.get(objective.metric, math.nan) for objective in self.objectives]
        within = all(constraint.violation(metrics) <= 0 for constraint in self.constraints)
        return values if within and all(math.isfinite(value) for value in values) else None

    def volume(self, rows: Iterable[Metrics]) -> float:
        """Computes the hypervolume of these, 0 where none is within the limits and better than the reference."""
        found = [values for metrics in rows if (values := self.values(metrics)) is not None]
        axes = len(self.objectives)
        return pareto.hypervolume([self._scaled(v) for v in found], ["min"] * axes, [0.0] * axes) if found else 0.0

    def _scaled(self, values: Sequence[float]) -> list[float]:
        scaled = []
        for value, objective in zip(values, self.objectives, strict=True):
            share = value / self.reference[objective.metric]
            ratio = share if objective.goal == "min" else 1 / max(share, 1 / MOST)
            scaled.append(math.log(max(ratio, 1 / MOST)))
        return scaled


@dataclass(frozen=True)
class Curve:
    """Holds the volume after each finish of a line; it is 0 before the first."""

    seconds: Sequence[float]
    volumes: Sequence[float]

    @property
    def final(self) -> float:
        return self.volumes[-1] if self.volumes else 0.0

    def at(self, seconds: float) -> float:
        return max((v for s, v in zip(self.seconds, self.volumes, strict=True) if s <= seconds), default=0.0)

    def reaches(self, target: float) -> float | None:
        """Returns the seconds of the first finish with at least that volume, or None if there is none."""
        enough = target * (1 - SAME)
        return next((s for s, v in zip(self.seconds, self.volumes, strict=True) if v >= enough), None)


def joined(line: Sequence[Finish], scale: Scale) -> list[bool]:
    """Tells for each finish, in order of time, whether it was on the front of that moment, by the values then told."""
    front: list[list[float]] = []
    found = []
    for finish in line:
        values = scale.values(finish.metrics)
        rows = front if values is None else [*front, values]
        kept = pareto.front(rows, scale.goals) if rows else []
        found.append(values is not None and len(rows) - 1 in kept)
        front = [rows[i] for i in kept]
    return found


def members(lines: Lines, scale: Scale) -> list[str]:
    """Returns the keys of all that were ever on the running front of a line, each once. It needs no reference."""
    every = [line for runs in lines.values() for line in runs]
    marked = [pair for line in every for pair in zip(line, joined(line, scale), strict=True)]
    return list(dict.fromkeys(finish.key for finish, on_front in marked if on_front))


def told(line: Sequence[Finish], scale: Scale) -> Curve:
    """Computes the volume by the values as first told."""
    volumes = [scale.volume(finish.metrics for finish in line[: i + 1]) for i in range(len(line))]
    return Curve([finish.seconds for finish in line], volumes)


def replayed(line: Sequence[Finish], scale: Scale, retrained: Mapping[str, Metrics | None]) -> Curve:
    """Computes the volume of all that were ever on the line's running front so far, by their re-trained values.

    None in `retrained` means that training failed; it adds nothing.
    """
    ever: dict[str, Metrics] = {}
    volumes = []
    for finish, on_front in zip(line, joined(line, scale), strict=True):
        metrics = retrained[finish.key] if on_front else None
        if metrics is not None:
            ever[finish.key] = metrics
        volumes.append(scale.volume(ever.values()))
    return Curve([finish.seconds for finish in line], volumes)


def time_ratios(ours: Sequence[Curve], stock: Sequence[Curve], budget_seconds: float) -> dict[str, Any]:
    """Divides the time in which ours reached stock's final volume by stock's, seed by seed; None where it never did.

    `time_ratio` is over the seconds in which stock itself first had that volume, `time_ratio_of_budget` over all the
    seconds of each run. Each has `per_seed` and `median`, which takes a None as endless.
    """
    reached = [mine.reaches(theirs.final) for mine, theirs in zip(ours, stock, strict=True)]
    own = [theirs.reaches(theirs.final) for theirs in stock]
    strict = [None if r is None or not o else r / o for r, o in zip(reached, own, strict=True)]
    of_budget = [None if r is None else r / budget_seconds for r in reached]
    return {
        "reached_seconds": reached,
        "time_ratio": {"per_seed": strict, "median": endless_median(strict)},
        "time_ratio_of_budget": {"per_seed": of_budget, "median": endless_median(of_budget)},
    }


def endless_median(values: Sequence[float | None]) -> float | None:
    """Returns the median, where None is larger than any number."""
    middle = median(math.inf if value is None else value for value in values)
    return middle if math.isfinite(middle) else None
