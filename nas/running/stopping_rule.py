"""Finds the trials that cannot reach the front any more, and stops them at rungs, over several objectives. It uses no
executor.

A trial ends at a rung as `dominated` when both hold:

1. Even its best forecast fails: a fully trained, feasible trial dominates it (nowhere worse, somewhere better). In this
   forecast the cheap objectives have their true values, and every other one has its most optimistic forecast
   (`nas.running.learning_curves`).
2. It is not among the best third of all trials that reached the rung. They are ordered by non-dominated sorting of
   the true values of those that are fully trained and the expected values of the others. Trials of one layer are
   ordered by an epsilon-net: the best in the first objective, then always the one farthest from all before it.

So the first layer of a rung always continues. Condition 2 alone, on the values at the rung, is asynchronous successive
halving over several objectives (Schmucker et al. 2021, arXiv:2106.12639, which also has the epsilon-net). That rule
loses trials that learn slowly at first and well in the end. A verdict never waits for other trials: it uses what is
known now.

A limit on a trained metric ends a trial as `infeasible:METRIC`, when no value within the forecast keeps it.

One trial in ten, by its number, is a control: it is never stopped. Otherwise curves that fall late would be stopped
each time, and never be seen. What the rule says of it is stored, so that the report can tell what stopping costs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from nas.reasons import Reason, Verdict, over_limit
from nas.results import Constraint, Objective, Rung
from nas.running.learning_curves import Curve, Floats
from nas.running.rung_table import NumberedRows, RungTable
from nas.samplers.point_sets import farthest_first

BEST_PART = 3
"""The best one in this many trials at a rung continues in any case."""
NEVER_STOPPED = 10
"""One trial in this many is never stopped, and never skipped."""


def is_control(number: int) -> bool:
    """Tells whether the trial of that number is trained to its end whatever the rules say."""
    return number % NEVER_STOPPED == NEVER_STOPPED - 1


@dataclass(frozen=True)
class TrialProgress:
    """Holds what a trial has shown. `metrics` are those known without training; a complete trial has all."""

    metrics: Mapping[str, float]
    rungs: Sequence[Rung]
    complete: bool = False
    feasible: bool = True

    def curve(self, metric: str, step: int) -> Curve:
        """Returns the curve as it stood at the rung of that step, which the trial has reached."""
        reached = [rung.metrics.get(metric, math.nan) for rung in self.rungs if rung.step <= step]
        return Curve(reached[-2] if len(reached) > 1 else math.nan, reached[-1])

    def has_reached(self, step: int) -> bool:
        return any(rung.step == step for rung in self.rungs)


class StoppingRule:
    """Decides which trials of a study stop at a rung, from the trials as they are now, in whatever order they
    arrived.

    A verdict costs O(N log N) in C for N trials at the rung, and no Python loop over them.
    """

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> None:
        self.objectives = objectives
        self.limits = [c for c in constraints if not c.means.cheap]
        self.trained = [o.metric for o in objectives if not o.means.cheap]
        self._trials: dict[int, TrialProgress] = {}
        self._finals = NumberedRows(len(objectives))
        self._rungs: dict[int, RungTable] = {}

    def update(self, number: int, progress: TrialProgress) -> None:
        """Takes in a trial as it now stands."""
        self.forget(number)
        self._trials[number] = progress
        known = [
            progress.metrics.get(o.metric) if o.means.cheap or progress.complete else None for o in self.objectives
        ]
        known_M = self._minimised([math.nan if value is None else value for value in known])
        if progress.complete and progress.feasible:
            self._finals.put(number, known_M)
        for step in {rung.step for rung in progress.rungs}:
            if step not in self._rungs:
                metrics = dict.fromkeys([*self.trained, *(limit.metric for limit in self.limits)])
                self._rungs[step] = RungTable(list(metrics), len(self.objectives))
            curves = {metric: progress.curve(metric, step) for metric in self._rungs[step].metrics}
            finals = {metric: progress.metrics.get(metric, math.nan) for metric in curves}
            self._rungs[step].put(number, curves, finals, known_M, progress.complete, progress.feasible)

    def forget(self, number: int) -> None:
        """Removes a trial that failed before its end, since it tells nothing."""
        self._finals.drop(number)
        for rung in self._trials[number].rungs if number in self._trials else ():
            self._rungs[rung.step].drop(number)
        self._trials.pop(number, None)

    def verdict(self, number: int) -> Verdict | None:
        """Decides whether that trial ends at the last rung that it has reached. None: it continues."""
        return None if is_control(number) else self.judged(number)

    def judged(self, number: int) -> Verdict | None:
        """Returns what the rule says of that trial at the last rung that it has reached, of a control too."""
        progress = self._trials[number]
        step = progress.rungs[-1].step
        for limit in self.limits:
            if (violation := self._violation(limit, progress, step)) > 0:
                return Verdict(step, over_limit(limit.metric), {limit.metric: violation})
        optimistic = self._optimistic(progress, step)
        if optimistic is None or not self.dominated(optimistic) or self._in_best_part(number, step):
            return None
        return Verdict(step, Reason.DOMINATED)

    def dominated(self, values: Sequence[float]) -> bool:
        """Tells whether a fully trained, feasible trial dominates these values of the objectives, in order."""
        if not all(map(math.isfinite, values)):
            return False
        final_NM, own_M = self._finals.rows(), np.array(self._minimised(values))
        return bool(((final_NM <= own_M).all(axis=1) & (final_NM < own_M).any(axis=1)).any())

    def _violation(self, limit: Constraint, progress: TrialProgress, step: int) -> float:
        """Computes the violation at the value within the forecast that is nearest to the limit."""
        told = self._rungs[step].forecaster(limit.metric).forecast(progress.curve(limit.metric, step))
        if told is None:
            return 0.0
        lowest = -math.inf if limit.min is None else limit.min
        return limit.violation({limit.metric: min(max(told.low, lowest), told.high)})

    def _optimistic(self, progress: TrialProgress, step: int) -> list[float] | None:
        """Returns the objectives in order, true or at their best forecast. None where one is neither known nor
        forecast.
        """
        values = list[float | None]()
        for objective in self.objectives:
            if objective.means.cheap or progress.complete:
                values.append(progress.metrics.get(objective.metric))
                continue
            told = self._rungs[step].forecaster(objective.metric).forecast(progress.curve(objective.metric, step))
            values.append(None if told is None else told.low if objective.goal == "min" else told.high)
        found = [value for value in values if value is not None and math.isfinite(value)]
        return found if len(found) == len(values) else None

    def _in_best_part(self, number: int, step: int) -> bool:
        """Tells whether the trial is among the best third of those at the rung."""
        numbers, value_NM = self._rungs[step].expected(self.objectives)
        own = int(np.searchsorted(numbers, number))
        return is_among_first(value_NM, own, len(numbers) / BEST_PART)

    def _minimised(self, values: Sequence[float]) -> list[float]:
        return [v if o.goal == "min" else -v for o, v in zip(self.objectives, values, strict=True)]


def is_among_first(values_NM: Floats, own: int, count: float) -> bool:
    """Tells whether `ordered(values_NM).index(own) < count`.

    Only the layer of that row is spread out, and only as far as needed.
    """
    # What the row dominates lies in later layers, and makes no difference to earlier ones.
    behind_N = (values_NM >= values_NM[own]).all(axis=1) & (values_NM > values_NM[own]).any(axis=1)
    own -= int(behind_N[:own].sum())
    values_NM = values_NM[~behind_N]
    layer_N = np.asarray(moocore.pareto_rank(values_NM))
    before, layer = int((layer_N < layer_N[own]).sum()), np.flatnonzero(layer_N == layer_N[own])
    left = min(math.ceil(count) - before, len(layer))
    if left <= 0 or left == len(layer):
        return left > 0
    return int(np.searchsorted(layer, own)) in _epsilon_net(values_NM[layer], left)


def ordered(values_NM: Floats) -> list[int]:
    """Orders rows from best to worst, all columns minimised: layer by layer, each spread out."""
    layer_N = np.asarray(moocore.pareto_rank(values_NM))
    layers = [np.flatnonzero(layer_N == layer) for layer in range(int(layer_N.max()) + 1)]
    return [int(layer[i]) for layer in layers for i in _epsilon_net(values_NM[layer], len(layer))]


def _epsilon_net(values_NM: Floats, count: int) -> list[int]:
    """Returns the first rows of an epsilon-net, from the best in the first column on; columns are scaled to their
    range.
    """
    span_M = np.ptp(values_NM, axis=0)
    scaled_NM = (values_NM - values_NM.min(axis=0)) / np.where(span_M > 0, span_M, 1.0)
    return farthest_first(scaled_NM, [int(scaled_NM[:, 0].argmin())], count)
