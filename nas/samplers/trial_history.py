"""Reads each trial of a study once: its values, what was known before training, its rungs and its violations.

Besides Optuna's own fields, it reads these user attributes of a trial:

- `KNOWN_VALUES`: a list with each objective's value or null, for a trial that is measured but not (or not yet) trained;
- `RUNG_VALUES`: [[budget, [value or null, …]], …] of a trial at its rungs; budgets rise, in any unit;
- `COST`: what its training takes, or would take, in any unit.

In a study of one objective, values that were reported with `trial.report` count as rungs.

It also reads these system attributes of a running trial: `PROPOSED`, the parameters that the sampler has chosen for it,
which Optuna stores only as they are asked for; and the parameters with which it was enqueued.

All values are minimised here. Objectives on a logarithmic scale become logarithms, then those that are maximised change
their sign.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.samplers.candidates import Key, key_of
from nas.samplers.hypervolume_improvement import LARGEST_LOG
from nas.samplers.outliers import LARGEST
from nas.samplers.point_sets import Floats
from nas.samplers.rung_regression import RungRegression

KNOWN_VALUES, RUNG_VALUES, COST = "known_values", "rung_values", "training_cost"
PROPOSED, ENQUEUED = "proposed_params", "fixed_params"


@dataclass(frozen=True)
class ObservedTrial:
    """Holds the values of one trial, finished or running.

    NaN stands where nothing is known. `complete` means trained to the end, with finite values. `rungs` holds (budget,
    values) of all rungs, the last one last.
    """

    number: int
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    complete: bool
    values_M: tuple[float, ...]
    rungs: tuple[tuple[float, tuple[float, ...]], ...]
    violations: Mapping[str, float]
    cost: float

    @property
    def feasible(self) -> bool:
        return all(v <= 0 for v in self.violations.values())


class GrowingArray:
    """Appends rows to one array."""

    def __init__(self, width: int) -> None:
        self._array, self._new = np.empty((0, width)), list[Sequence[float]]()

    def append(self, row: Sequence[float]) -> None:
        self._new.append(row)

    def __len__(self) -> int:
        return len(self._array) + len(self._new)

    def array(self) -> Floats:
        if self._new:
            self._array = np.concatenate([self._array, np.array(self._new, dtype=float)])
            self._new = []
        return self._array


class TrialHistory:
    """Keeps the finished trials (`done`, in order of finish) and the running ones (`open`) as of the last `update`.

    N in shapes counts `done`, M objectives.
    """

    def __init__(self, directions: Sequence[StudyDirection], logarithmic: Sequence[bool]) -> None:
        self.directions, self.logarithmic = directions, logarithmic
        self.done, self.open = list[ObservedTrial](), list[ObservedTrial]()
        self.taken: set[Key] = set()
        """The parameters of all trials, failed ones too."""
        self.curves = [RungRegression() for _ in directions]
        self.constraints: dict[str, None] = {}
        """The names of the constraints, in order of appearance."""
        self._seen, self._first_open = set[int](), 0
        self._under_way: dict[int, tuple[FrozenTrial, ObservedTrial]] = {}
        """The running trials by number, as Optuna returned them and as they were read."""
        self._values, self._last = GrowingArray(len(directions)), GrowingArray(1 + len(directions))
        self._marks = GrowingArray(3)

    def update(self, study: Study, besides: int) -> None:
        """Takes in what is new. The trial of that number is the one being sampled."""
        unread = study.get_trials(deepcopy=False)[self._first_open :]
        trials = [t for t in unread if t.number not in self._seen and t.number != besides]
        finished = [t for t in trials if t.state.is_finished()]
        for trial in sorted(finished, key=lambda t: (t.datetime_complete, t.number)):
            self._seen.add(trial.number)
            self.taken.add(key_of(trial.params))
            if trial.state is not TrialState.FAIL:
                self._keep(self.read(trial))
        while self._first_open in self._seen:
            self._first_open += 1
        under_way = {t.number: (t, self._reading(t)) for t in trials if not t.state.is_finished()}
        self._under_way = under_way
        self.open = [observed for _, observed in under_way.values() if observed.params]

    @property
    def ended(self) -> int:
        """Returns how many trials have ended, failed ones too."""
        return len(self._seen)

    @property
    def values_NM(self) -> Floats:
        return self._values.array()

    @property
    def complete_N(self) -> NDArray[np.bool_]:
        return self._marks.array()[:, 0] > 0

    @property
    def eligible_N(self) -> NDArray[np.bool_]:
        """Tells which trials are complete and feasible."""
        return self.complete_N & (self._marks.array()[:, 1] > 0)

    @property
    def at_rung_N(self) -> NDArray[np.bool_]:
        """Tells which trials have reached a rung."""
        return np.isfinite(self._last.array()[:, 0])

    @property
    def cost_N(self) -> Floats:
        return self._marks.array()[:, 2]

    def violations_N(self, name: str) -> Floats:
        violations_N = np.array([trial.violations.get(name, math.nan) for trial in self.done])
        limited_N: Floats = np.clip(violations_N, -LARGEST, LARGEST)
        return limited_N

    def extrapolated(self, m: int) -> tuple[Floats, Floats]:
        """Returns one objective of each finished trial, and its standard deviation of error, (N,) each.

        Where the final value is not known, it is extrapolated from the last rung; NaN where nothing is known. An
        infinitely bad value counts as the worst that was seen.
        """
        y_N, spread_N = self.values_NM[:, m].copy(), np.zeros(len(self.done))
        y_N[np.isposinf(y_N)] = y_N[np.isfinite(y_N)].max(initial=-math.inf)
        last_N1M = self._last.array()
        for budget in np.unique(last_N1M[np.isnan(y_N), 0]):
            line = self.curves[m].line(float(budget))
            if line:
                here_N = np.isnan(y_N) & (last_N1M[:, 0] == budget) & np.isfinite(last_N1M[:, 1 + m])
                y_N[here_N] = line.at(last_N1M[here_N, 1 + m])
                spread_N[here_N] = line.spread
        return y_N, spread_N

    def expected(self, trial: ObservedTrial, m: int) -> tuple[float, float] | None:
        """Returns the expected final value of one objective of a running trial, and its spread; None where nothing is
        known.
        """
        if math.isfinite(trial.values_M[m]):
            return trial.values_M[m], 0.0
        if not trial.rungs or not math.isfinite(trial.rungs[-1][1][m]):
            return None
        line = self.curves[m].line(trial.rungs[-1][0])
        return (float(line.at(np.array(trial.rungs[-1][1][m]))), line.spread) if line else None

    def internal(self, values: Sequence[float | None]) -> tuple[float, ...]:
        """Converts objectives to minimised values on their scales.

        Infinitely bad values stay so; None and all else that is not finite there becomes NaN.
        """
        told = values or [None] * len(self.directions)
        return tuple(math.nan if v is None else self._internal(m, v) for m, v in enumerate(told))

    def external(self, values: Sequence[float]) -> list[float]:
        """Converts back from `internal`."""
        signed = [-v if d is StudyDirection.MAXIMIZE else v for v, d in zip(values, self.directions, strict=True)]
        return [math.exp(min(v, LARGEST_LOG)) if log else v for v, log in zip(signed, self.logarithmic, strict=True)]

    def _keep(self, trial: ObservedTrial) -> None:
        self.done.append(trial)
        self.constraints |= dict.fromkeys(trial.violations)
        self._values.append(trial.values_M)
        self._marks.append((float(trial.complete), float(trial.feasible), trial.cost))
        nothing = (math.nan, (math.nan,) * len(self.curves))
        budget, values_M = trial.rungs[-1] if trial.rungs else nothing
        self._last.append((budget, *values_M))
        if trial.complete:
            for m, curve in enumerate(self.curves):
                for at, rung_M in trial.rungs:
                    if math.isfinite(rung_M[m]):
                        curve.add(at, rung_M[m], trial.values_M[m])

    def _reading(self, trial: FrozenTrial) -> ObservedTrial:
        """Reads a running trial, once for each object that Optuna makes of it: its storages never change one."""
        known, observed = self._under_way.get(trial.number, (None, None))
        return observed if known is trial and observed is not None else self.read(trial)

    def read(self, trial: FrozenTrial) -> ObservedTrial:
        """Reads the values of a trial, as it now stands."""
        told: Sequence[float | None]
        complete = trial.state is TrialState.COMPLETE
        told = trial.values if complete else trial.user_attrs.get(KNOWN_VALUES) or ()
        values_M = self.internal(told)
        ahead = {} if trial.state.is_finished() else trial.system_attrs
        return ObservedTrial(
            number=trial.number,
            params={**ahead.get(PROPOSED, {}), **ahead.get(ENQUEUED, {}), **trial.params},
            distributions=trial.distributions,
            complete=complete and all(map(math.isfinite, values_M)),
            values_M=values_M,
            rungs=tuple((float(b), self.internal(v)) for b, v in self._rungs(trial)),
            violations=dict(trial.constraints),
            cost=float(trial.user_attrs.get(COST, math.nan)),
        )

    def _rungs(self, trial: FrozenTrial) -> Sequence[tuple[float, Sequence[float | None]]]:
        """Yields (budget, values) of each rung. Optuna's intermediate values are those of the only objective."""
        if RUNG_VALUES in trial.user_attrs or len(self.directions) > 1:
            noted: Sequence[tuple[float, Sequence[float | None]]] = trial.user_attrs.get(RUNG_VALUES, ())
            return noted
        return [(step, [value]) for step, value in sorted(trial.intermediate_values.items())]

    def _internal(self, m: int, value: float) -> float:
        sign = -1.0 if self.directions[m] is StudyDirection.MAXIMIZE else 1.0
        if sign * value == math.inf:
            return math.inf
        if not math.isfinite(value) or (self.logarithmic[m] and value <= 0):
            return math.nan
        return sign * (math.log(value) if self.logarithmic[m] else min(max(value, -LARGEST), LARGEST))
