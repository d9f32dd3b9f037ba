"""What a study's trials tell a sampler, read once each: values, what was known before training, rungs, violations.

Besides Optuna's own fields these user attributes of a trial are read:

- `KNOWN_VALUES`: a list with each objective's value or null, of a trial measured but not (or not yet) trained;
- `RUNG_VALUES`: [[budget, [value or null, …]], …] of a trial at its rungs; budgets rise, any unit;
- `COST`: what training it takes, or would have, in any unit.

All values are minimised here: objectives that are maximised change their sign, those on a logarithmic scale become
logarithms.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.search.candidates import Key, key_of
from nas.search.fidelity import Curves
from nas.search.improvement import Floats

KNOWN_VALUES, RUNG_VALUES, COST = "known_values", "rung_values", "training_cost"


@dataclass(frozen=True)
class Past:
    """One trial. `values_M` has NaN where nothing is known; `complete`: trained to the end."""

    number: int
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    complete: bool
    finished: bool
    values_M: tuple[float, ...]
    rungs: tuple[tuple[float, tuple[float, ...]], ...]
    violations: Mapping[str, float]
    cost: float

    @property
    def feasible(self) -> bool:
        return all(v <= 0 for v in self.violations.values())


@dataclass
class History:
    """`done` are the finished trials in order of finish, `open` those under way, as of the last `update`."""

    directions: Sequence[StudyDirection]
    logarithmic: Sequence[bool]
    done: list[Past] = field(default_factory=list)
    open: list[Past] = field(default_factory=list)
    taken: set[Key] = field(default_factory=set)
    curves: list[Curves] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.curves = [Curves() for _ in self.directions]

    def update(self, study: Study, besides: int) -> None:
        """Take in what is new; the trial of that number is the one being sampled."""
        trials = [t for t in study.get_trials(deepcopy=False) if t.number not in self._seen and t.number != besides]
        finished = [t for t in trials if t.state.is_finished()]
        for trial in sorted(finished, key=lambda t: (t.datetime_complete, t.number)):
            self._seen.add(trial.number)
            self.taken.add(key_of(trial.params))
            if trial.state is not TrialState.FAIL:
                self._keep(self._read(trial))
        self.open = [self._read(t) for t in trials if not t.state.is_finished() and t.params]

    def internal(self, values: Sequence[float | None]) -> tuple[float, ...]:
        """Objectives as told → minimised, on their scales; NaN for None and for what is not finite there."""
        return tuple(math.nan if v is None else self._internal(m, v) for m, v in enumerate(values)) or (
            math.nan,
        ) * len(self.directions)

    def external(self, values: Sequence[float]) -> list[float]:
        """The way back."""
        linear = [math.exp(v) if log else v for v, log in zip(values, self.logarithmic, strict=True)]
        return [-v if d is StudyDirection.MAXIMIZE else v for v, d in zip(linear, self.directions, strict=True)]

    def values(self, pasts: Sequence[Past]) -> Floats:
        """(N, M)."""
        return np.array([past.values_M for past in pasts], dtype=float).reshape(len(pasts), len(self.directions))

    def _keep(self, past: Past) -> None:
        self.done.append(past)
        if past.complete:
            for m, curve in enumerate(self.curves):
                rungs = {b: v[m] for b, v in past.rungs if math.isfinite(v[m])}
                if math.isfinite(past.values_M[m]):
                    curve.add(rungs, past.values_M[m])

    def _read(self, trial: FrozenTrial) -> Past:
        complete = trial.state is TrialState.COMPLETE
        told: Sequence[float | None] = trial.values if complete else trial.user_attrs.get(KNOWN_VALUES) or ()
        return Past(
            number=trial.number,
            params=trial.params,
            distributions=trial.distributions,
            complete=complete,
            finished=trial.state.is_finished(),
            values_M=self.internal(told),
            rungs=tuple((float(b), self.internal(v)) for b, v in trial.user_attrs.get(RUNG_VALUES, ())),
            violations=dict(trial.constraints),
            cost=float(trial.user_attrs.get(COST, math.nan)),
        )

    def _internal(self, m: int, value: float) -> float:
        signed = -value if self.directions[m] is StudyDirection.MAXIMIZE else value
        if not self.logarithmic[m]:
            return signed if math.isfinite(signed) else math.nan
        return math.log(signed) if 0 < signed < math.inf else math.nan
