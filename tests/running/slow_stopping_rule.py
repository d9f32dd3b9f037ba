"""The stopping rule as nas/running/stopping_rule.py describes it, computed anew from all trials for every verdict."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from nas.reasons import Reason, Verdict, over_limit
from nas.results import Constraint, Objective
from nas.running.learning_curves import Curve, CurveForecaster
from nas.running.stopping_rule import BEST_PART, NEVER_STOPPED, TrialProgress, ordered

Estimate = Callable[[Objective, Curve, int], float | None]
"""Estimates the final value of an objective from the curve up to the rung of that step."""


class SlowStoppingRule:
    """Decides which trials of a study stop at a rung, from the trials as they are now, in whatever order they
    arrived.
    """

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> None:
        self.objectives = objectives
        self.limits = [c for c in constraints if not c.means.cheap]
        self._trials: dict[int, TrialProgress] = {}
        self._forecasters: dict[tuple[str, int], CurveForecaster] = {}

    def update(self, number: int, progress: TrialProgress) -> None:
        """Takes in a trial as it now stands."""
        self._trials[number] = progress
        if progress.complete:
            self._forecasters.clear()

    def forget(self, number: int) -> None:
        """Removes a trial that failed before its end, since it tells nothing."""
        self._trials.pop(number, None)

    def verdict(self, number: int) -> Verdict | None:
        """Decides whether that trial ends at the last rung that it has reached. None: it continues."""
        progress = self._trials[number]
        step = progress.rungs[-1].step
        if number % NEVER_STOPPED == NEVER_STOPPED - 1:
            return None
        for limit in self.limits:
            if (violation := self._violation(limit, progress, step)) > 0:
                return Verdict(step, over_limit(limit.metric), {limit.metric: violation})
        optimistic = self._point(progress, step, self._optimistic)
        if optimistic is None or not self.dominated(optimistic) or self._in_best_part(number, step):
            return None
        return Verdict(step, Reason.DOMINATED)

    def dominated(self, values: Sequence[float]) -> bool:
        """Tells whether a fully trained, feasible trial dominates these values of the objectives, in order."""
        if not all(map(math.isfinite, values)):
            return False
        finals = [
            self._minimised([progress.metrics[o.metric] for o in self.objectives])
            for progress in self._trials.values()
            if progress.complete and progress.feasible
        ]
        final_NM, own_M = np.array(finals).reshape(-1, len(self.objectives)), np.array(self._minimised(values))
        return bool(((final_NM <= own_M).all(axis=1) & (final_NM < own_M).any(axis=1)).any())

    def _forecaster(self, metric: str, step: int) -> CurveForecaster:
        if (metric, step) not in self._forecasters:
            trials = [self._trials[number] for number in sorted(self._trials)]
            complete = [c for c in trials if c.complete and c.has_reached(step)]
            rows = [(*c.curve(metric, step), c.metrics.get(metric, math.nan)) for c in complete]
            self._forecasters[metric, step] = CurveForecaster(np.array(rows, dtype=float).reshape(-1, 3))
        return self._forecasters[metric, step]

    def _violation(self, limit: Constraint, progress: TrialProgress, step: int) -> float:
        """Computes the violation at the value within the forecast that is nearest to the limit."""
        told = self._forecaster(limit.metric, step).forecast(progress.curve(limit.metric, step))
        if told is None:
            return 0.0
        lowest = -math.inf if limit.min is None else limit.min
        return limit.violation({limit.metric: min(max(told.low, lowest), told.high)})

    def _optimistic(self, objective: Objective, curve: Curve, step: int) -> float | None:
        told = self._forecaster(objective.metric, step).forecast(curve)
        if told is None:
            return None
        return told.low if objective.goal == "min" else told.high

    def _expected(self, objective: Objective, curve: Curve, step: int) -> float | None:
        return self._forecaster(objective.metric, step).expected(curve)

    def _point(self, progress: TrialProgress, step: int, estimate: Estimate) -> list[float] | None:
        """Returns the objectives in order, with true values where they are known.

        None where one is neither known nor forecast.
        """
        values: list[float | None] = [
            progress.metrics.get(objective.metric)
            if objective.means.cheap or progress.complete
            else estimate(objective, progress.curve(objective.metric, step), step)
            for objective in self.objectives
        ]
        found = [value for value in values if value is not None and math.isfinite(value)]
        return found if len(found) == len(values) else None

    def _in_best_part(self, number: int, step: int) -> bool:
        peers = {
            other: point
            for other, progress in sorted(self._trials.items())
            if progress.has_reached(step) and (progress.feasible or not progress.complete)
            if (point := self._point(progress, step, self._expected)) is not None
        }
        order = ordered(np.array([self._minimised(point) for point in peers.values()]))
        return order.index(list(peers).index(number)) < len(peers) / BEST_PART

    def _minimised(self, values: Sequence[float]) -> list[float]:
        return [v if o.goal == "min" else -v for o, v in zip(self.objectives, values, strict=True)]
