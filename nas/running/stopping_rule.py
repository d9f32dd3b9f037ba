"""Which trials cannot reach the front any more: early stopping at rungs, over several objectives. Knows no executor.

A trial ends at a rung as `dominated` when both hold:

1. It is beyond hope: a fully trained, feasible trial dominates it (nowhere worse, somewhere better), even with its
   cheap objectives at their true values and every other at the most optimistic end of its forecast
   (`nas.running.learning_curves`).
2. It is not among the best third of all trials that reached the rung. They are ordered by non-dominated sorting of
   the true values of those that are fully trained and the expected values of the others; trials of one layer are
   ordered by an epsilon-net: the best in the first objective, then always the one farthest from all before it.

So the first layer of a rung always goes on. Condition 2 alone, of the values at the rung, is asynchronous successive
halving over several objectives (Schmucker et al. 2021, arXiv:2106.12639, whose epsilon-net it is); that loses what
learns slowly at first and well in the end. Nobody is waited for: what is known now decides.

A limit on a trained metric ends a trial as `infeasible:METRIC`, when no value within the forecast keeps it.

One trial in ten, by its number, is never stopped: what falls late would else be stopped each time, and never be seen.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from nas.reasons import Reason, Verdict, over_limit
from nas.results import Constraint, Objective, Rung
from nas.running.learning_curves import Curve, CurveEnds, Floats

KEPT = 3
"""The best of this many at a rung goes on in any case."""
NEVER_STOPPED = 10
"""One in so many."""

Guess = Callable[[Objective, Curve, int], float | None]
"""What an objective may come to of a trial whose curve stands so at the rung of that step."""


@dataclass(frozen=True)
class Course:
    """What is known of a trial. `metrics`: those known without training; of a complete trial, all."""

    metrics: Mapping[str, float]
    rungs: Sequence[Rung]
    complete: bool = False
    feasible: bool = True

    def curve(self, metric: str, step: int) -> Curve:
        """As it stood at the rung of that step, which it has reached."""
        reached = [rung.metrics.get(metric, math.nan) for rung in self.rungs if rung.step <= step]
        return Curve(reached[-2] if len(reached) > 1 else math.nan, reached[-1])

    def has_reached(self, step: int) -> bool:
        return any(rung.step == step for rung in self.rungs)


class Stopping:
    """The trials of one study as they are now. What it says depends on them alone, not on who came first."""

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> None:
        self.objectives = objectives
        self.limits = [c for c in constraints if not c.means.cheap]
        self._courses: dict[int, Course] = {}
        self._ends_at: dict[tuple[str, int], CurveEnds] = {}

    def know(self, number: int, course: Course) -> None:
        """A trial as it now stands."""
        self._courses[number] = course
        if course.complete:
            self._ends_at.clear()

    def forget(self, number: int) -> None:
        """It failed before its end, so it tells nothing."""
        self._courses.pop(number, None)

    def verdict(self, number: int) -> Verdict | None:
        """Whether that trial ends at the last rung that it has reached. None: it goes on."""
        course = self._courses[number]
        step = course.rungs[-1].step
        if number % NEVER_STOPPED == NEVER_STOPPED - 1:
            return None
        for limit in self.limits:
            if (violation := self._violation(limit, course, step)) > 0:
                return Verdict(step, over_limit(limit.metric), {limit.metric: violation})
        hope = self._point(course, step, self._best)
        if hope is None or not self.beaten(hope) or self._is_kept(number, step):
            return None
        return Verdict(step, Reason.DOMINATED)

    def beaten(self, values: Sequence[float]) -> bool:
        """Whether a fully trained, feasible trial dominates these values of the objectives, in order."""
        if not all(map(math.isfinite, values)):
            return False
        finals = [
            self._minimised([course.metrics[o.metric] for o in self.objectives])
            for course in self._courses.values()
            if course.complete and course.feasible
        ]
        final_NM, own_M = np.array(finals).reshape(-1, len(self.objectives)), np.array(self._minimised(values))
        return bool(((final_NM <= own_M).all(axis=1) & (final_NM < own_M).any(axis=1)).any())

    def _ends(self, metric: str, step: int) -> CurveEnds:
        if (metric, step) not in self._ends_at:
            courses = [self._courses[number] for number in sorted(self._courses)]
            whole = [c for c in courses if c.complete and c.has_reached(step)]
            rows = [(*c.curve(metric, step), c.metrics.get(metric, math.nan)) for c in whole]
            self._ends_at[metric, step] = CurveEnds(np.array(rows, dtype=float).reshape(-1, 3))
        return self._ends_at[metric, step]

    def _violation(self, limit: Constraint, course: Course, step: int) -> float:
        """At the value within the forecast that is nearest to what is allowed."""
        told = self._ends(limit.metric, step).forecast(course.curve(limit.metric, step))
        if told is None:
            return 0.0
        lowest = -math.inf if limit.min is None else limit.min
        return limit.violation({limit.metric: min(max(told.low, lowest), told.high)})

    def _best(self, objective: Objective, curve: Curve, step: int) -> float | None:
        told = self._ends(objective.metric, step).forecast(curve)
        if told is None:
            return None
        return told.low if objective.goal == "min" else told.high

    def _expected(self, objective: Objective, curve: Curve, step: int) -> float | None:
        return self._ends(objective.metric, step).expected(curve)

    def _point(self, course: Course, step: int, guess: Guess) -> list[float] | None:
        """The objectives in order, as they are where they are known. None where one is neither known nor guessed."""
        values: list[float | None] = [
            course.metrics.get(objective.metric)
            if objective.means.cheap or course.complete
            else guess(objective, course.curve(objective.metric, step), step)
            for objective in self.objectives
        ]
        found = [value for value in values if value is not None and math.isfinite(value)]
        return found if len(found) == len(values) else None

    def _is_kept(self, number: int, step: int) -> bool:
        peers = {
            other: point
            for other, course in sorted(self._courses.items())
            if course.has_reached(step) and (course.feasible or not course.complete)
            if (point := self._point(course, step, self._expected)) is not None
        }
        order = ordered(np.array([self._minimised(point) for point in peers.values()]))
        return order.index(list(peers).index(number)) < len(peers) / KEPT

    def _minimised(self, values: Sequence[float]) -> list[float]:
        return [v if o.goal == "min" else -v for o, v in zip(self.objectives, values, strict=True)]


def ordered(values_NM: Floats) -> list[int]:
    """Rows from best to worst, all columns to be made small: layer by layer, each spread out."""
    layer_N = np.asarray(moocore.pareto_rank(values_NM))
    layers = [np.flatnonzero(layer_N == layer) for layer in range(int(layer_N.max()) + 1)]
    return [int(layer[i]) for layer in layers for i in _spread_out(values_NM[layer])]


def _spread_out(values_NM: Floats) -> list[int]:
    """An epsilon-net, each column scaled to its range: the best in the first column, then always the farthest."""
    span_M = np.ptp(values_NM, axis=0)
    scaled_NM = (values_NM - values_NM.min(axis=0)) / np.where(span_M > 0, span_M, 1.0)
    chosen = [int(scaled_NM[:, 0].argmin())]
    distance_N = np.full(len(scaled_NM), np.inf)
    for _ in range(len(scaled_NM) - 1):
        distance_N = np.minimum(distance_N, np.linalg.norm(scaled_NM - scaled_NM[chosen[-1]], axis=1))
        distance_N[chosen] = -1.0
        chosen.append(int(distance_N.argmax()))
    return chosen
