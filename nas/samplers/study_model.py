"""Predicts the objectives of candidates from the trials so far: the pareto sampler's model, without Optuna's calls.

Shapes: N finished trials, P finished or running trials, C candidates, M objectives, D features.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.samplers import gaussian_process
from nas.samplers.candidates import Candidate, Key, SpaceFunction, space_from_trials
from nas.samplers.design_matrix import DesignMatrix
from nas.samplers.encoding import MOST_CACHED
from nas.samplers.gaussian_process import Process
from nas.samplers.outliers import OutlierScale, scale_of
from nas.samplers.point_sets import Floats, near_front, nearest_distance
from nas.samplers.surrogate import Observations, Surrogate, kernel, thinned
from nas.samplers.trial_history import ObservedTrial, TrialHistory

FEWEST_COMPLETE, FEWEST_FOR_BOUND = 3, 8
MANY, SHARED = 16, 8
"""With so many running trials, what was computed is kept until one trial has ended for each `SHARED` running ones."""
REFIT_GROWTH = 1.1
FEWEST_PARENTS, MOST_PARENTS, FRONT_POOL = 12, 32, 64
LIMIT = 0.0
"""A violation up to this counts as none."""
COST_WEIGHT = 0.5
"""The improvement is divided by the cost to this power."""

Prediction = Surrogate | Process


@dataclass(frozen=True)
class CheapFunctions:
    """Functions of a candidate's configuration that need no training."""

    cheap: Mapping[int, Callable[[Any], float]]
    limits: Mapping[str, Callable[[Any], float]]
    cost: Callable[[Any], float] | None


class StudyModel:
    """Keeps surrogates over `history`, once `n_startup_trials` have values.

    `base` is the part of the pool that stays the same.
    """

    def __init__(
        self,
        history: TrialHistory,
        functions: CheapFunctions,
        features: Callable[[Any], Sequence[float]] | None,
        space: SpaceFunction | None,
        base: Sequence[Candidate],
        n_startup_trials: int,
    ) -> None:
        self.history, self.functions, self.n_startup_trials = history, functions, n_startup_trials
        self.design = DesignMatrix(
            history, functions.cheap, features, space, base, max(n_startup_trials, FEWEST_COMPLETE)
        )
        self._kernels: dict[str, tuple[tuple[int, int], Any]] = {}
        self._costs: dict[Key, float] = {}
        self._allowed: dict[Key, bool] = {}
        self._scales: tuple[int, list[OutlierScale]] = (-1, [])
        self._kept: dict[int, tuple[int, Process]] = {}
        """Objective → how many trials had ended, and the surrogate of bounds that was made then."""
        self.base = [candidate for candidate in base if self.may_be_proposed(candidate)]

    @property
    def many(self) -> bool:
        """Tells whether so many trials run that a result more or less changes little. Then faster forms are used."""
        return len(self.history.open) >= MANY

    def outdated(self, ended: int) -> bool:
        """Tells whether what was made when `ended` trials had ended is to be made again."""
        return self.history.ended - ended > (len(self.history.open) // SHARED if self.many else 0)

    @property
    def ready(self) -> bool:
        """Tells whether enough trials are trained for a model."""
        described_N, complete_N = self.design.mask_N(), self.history.complete_N
        informed = int((described_N & (complete_N | self.history.at_rung_N)).sum())
        return informed >= self.n_startup_trials and int((described_N & complete_N).sum()) >= FEWEST_COMPLETE

    def may_be_proposed(self, candidate: Candidate) -> bool:
        """Tells whether a candidate's cheap objectives are known and its known limits kept."""
        if candidate.key not in self._allowed:
            if len(self._allowed) > MOST_CACHED:
                self._allowed.clear()
            known = all(map(math.isfinite, self.design.cheap_of(candidate).values()))
            limits = self.functions.limits.values()
            self._allowed[candidate.key] = known and all(limit(candidate.configuration) <= 0 for limit in limits)
        return self._allowed[candidate.key]

    def furthest(self, pool: Sequence[Candidate], generator: random.Random) -> Candidate:
        """Returns the candidate least like the trials so far, relative to its cost; for the very first trial, the
        cheapest or any.
        """
        rows_CD = self.design.rows(pool)
        cost_C = self.cost(pool, rows_CD)
        tried = self.design.candidates((*self.history.done, *self.history.open))
        if not tried:
            return pool[int(cost_C.argmin())] if self.functions.cost else generator.choice(pool)
        unlike_C = nearest_distance(rows_CD, self.design.rows(tried)) / cost_C
        return pool[int(unlike_C.argmax())] if unlike_C.any() else generator.choice(pool)

    def parents(self) -> list[Candidate]:
        """Returns the trials near the front, best layer first, the newest of a layer first."""
        eligible = np.flatnonzero(self.history.eligible_N & self.design.mask_N())
        near = eligible[near_front(self.history.values_NM[eligible], FEWEST_PARENTS)][:MOST_PARENTS]
        return self.design.candidates([self.history.done[i] for i in near])

    def shown_space(self) -> SpaceFunction | None:
        """Returns what the finished trials show of the space."""
        return space_from_trials((trial.params, trial.distributions) for trial in self.history.done if trial.complete)

    def bound(
        self, trial: ObservedTrial, known: Sequence[float | None], sds: float | None = None
    ) -> list[float] | None:
        """Returns a trial's objectives, with known values where there are any and optimistic bounds elsewhere.
        None for a trial that is not described, and while too few trials are trained.

        With `sds`, the bound lies so many standard deviations of the expected value below it, as in earlier versions.
        """
        candidate, complete_N = self.design.candidate(trial), self.history.complete_N & self.design.mask_N()
        if candidate is None or not self.ready or int(complete_N.sum()) < FEWEST_FOR_BOUND:
            return None
        row_1D = self.design.rows([candidate])
        values = list(self.history.internal(known))
        for m, value in enumerate(values):
            if math.isnan(value) and m in self.functions.cheap:
                values[m] = self.design.cheap_of(candidate)[m]
            elif math.isnan(value):
                surrogate = self._bounding(m)
                below = surrogate.bound(row_1D) if sds is None else surrogate.predict(row_1D).below(sds)
                values[m] = float(below[0])
        return self.history.external(values)

    def _bounding(self, m: int) -> Prediction:
        """Returns the surrogate of bounds, which expectations of other running trials do not narrow. While many trials
        run, it is kept for some results.
        """
        if not self.many:
            return Surrogate(self._observed_so_far(m)[0], self._kernel_of(m))
        if m not in self._kept or self.outdated(self._kept[m][0]):
            self._kept[m] = self.history.ended, Process(self._observed_so_far(m)[0], self._kernel_of(m))
        return self._kept[m][1]

    def scales(self) -> list[OutlierScale]:
        """Returns the scale of each objective: that of the finished trials' values and the base's known ones."""
        if self._scales[0] != len(self.history.done):
            columns = [self.with_base(m, column) for m, column in enumerate(self.history.values_NM.T)]
            self._scales = len(self.history.done), [scale_of(column) for column in columns]
        return self._scales[1]

    def with_base(self, m: int, column: Floats) -> Floats:
        """Returns these values of an objective and, if it is cheap, those of the base."""
        if m not in self.functions.cheap:
            return column
        return np.concatenate([column, [self.design.cheap_of(candidate)[m] for candidate in self.base]])

    def surrogates(self) -> dict[int, Prediction]:
        """Makes a surrogate for each objective that is not cheap."""
        return {m: self._surrogate(m) for m in range(len(self.history.directions)) if m not in self.functions.cheap}

    def _surrogate(self, m: int) -> Prediction:
        """Fits one surrogate. A running trial counts with its last rung.

        A running trial without a value counts as if it turned out as expected, so that the next proposal is another.
        """
        (seen, waiting), fitted = self._observed_so_far(m), self._kernel_of(m)
        if not waiting:
            return Process(seen, fitted) if self.many else Surrogate(seen, fitted)
        rows_PD = self.design.rows(waiting)
        if self.many:
            return Process(seen, fitted, believed_BD=rows_PD)
        believed = Observations(rows_PD, Surrogate(seen, fitted).smoothed(rows_PD), np.zeros(len(waiting)))
        return Surrogate(seen.joined(believed), fitted)

    def _observed_so_far(self, m: int) -> tuple[Observations, list[Candidate]]:
        """Returns the values of finished trials and those at rungs, then the running trials without either."""
        seen, waiting, going = self._observed(m), list[Candidate](), list[tuple[Candidate, float, float]]()
        for trial in self.history.open:
            candidate, told = self.design.candidate(trial), self.history.expected(trial, m)
            if candidate and told:
                going.append((candidate, *told))
            elif candidate:
                waiting.append(candidate)
        if going:
            y_P, spread_P = np.array([told for _, *told in going]).T
            rows_PD = self.design.rows([candidate for candidate, _, _ in going])
            seen = seen.joined(Observations(rows_PD, self.scales()[m].apply(y_P), spread_P))
        return seen, waiting

    def _kernel_of(self, m: int) -> Any:
        return self._kernel(f"objective {m}", self.history.values_NM[:, m])

    def _observed(self, m: int) -> Observations:
        """Returns the values of the finished trials that are known, or extrapolated from their last rung."""
        y_N, spread_N = self.history.extrapolated(m)
        scale = self.scales()[m]
        return self._told(scale.apply(y_N), spread_N + scale.doubt(y_N))

    def _told(self, y_N: Floats, spread_N: Floats | None = None, count: int | None = None) -> Observations:
        """Returns the first `count` values that are not NaN; of many, a part."""
        told = np.flatnonzero(np.isfinite(y_N) & self.design.mask_N())[:count]
        kept = told[thinned(y_N[told])]
        spread_P = np.zeros(len(kept)) if spread_N is None else spread_N[kept]
        candidates = self.design.candidates([self.history.done[i] for i in kept])
        return Observations(self.design.rows(candidates), y_N[kept], spread_P)

    def _kernel(self, what: str, y_N: Floats) -> Any:
        """Fits the kernel again when a tenth more trials have a value. It uses the first so many, whenever it is asked.

        Only final values are used here, since an extrapolated value changes with later trials.
        """
        told = np.flatnonzero(np.isfinite(y_N) & self.design.mask_N())
        count = scheduled(len(told))
        state = (count, self.design.version)
        if what not in self._kernels or self._kernels[what][0] != state:
            scale = scale_of(y_N[told[:count]])
            find = gaussian_process.kernel if self.many else kernel
            self._kernels[what] = (state, find(self._told(scale.apply(y_N), scale.doubt(y_N), count)))
        return self._kernels[what][1]

    def front(self, surrogates: Mapping[int, Prediction]) -> Floats:
        """Returns the points near the front, with the noise of training removed, and running trials at their expected
        values.
        """
        eligible = np.flatnonzero(self.history.eligible_N)
        near = eligible[near_front(self.history.values_NM[eligible], FRONT_POOL)]
        trials = [*(self.history.done[i] for i in near), *(trial for trial in self.history.open if trial.feasible)]
        values_PM = np.array([trial.values_M for trial in trials]).reshape(-1, len(self.history.directions))
        for m, scale in enumerate(self.scales()):
            values_PM[:, m] = scale.apply(values_PM[:, m])
        candidates = self.design.candidates(trials)
        if candidates:
            described = [i for i, trial in enumerate(trials) if self.design.candidate(trial)]
            for m in self.functions.cheap:
                values_PM[described, m] = self.cheap_values(m, candidates)
            rows_PD = self.design.rows(candidates)
            for m, surrogate in surrogates.items():
                values_PM[described, m] = surrogate.smoothed(rows_PD)
        known_PM: Floats = values_PM[np.isfinite(values_PM).all(axis=1)]
        return known_PM

    def cheap_values(self, m: int, candidates: Sequence[Candidate]) -> Floats:
        """Returns one cheap objective of each candidate, on its scale."""
        return self.scales()[m].apply([self.design.cheap_of(candidate)[m] for candidate in candidates])

    def log_feasible(self, rows_CD: Floats) -> Floats:
        """Returns the logarithm of the probability that the limits not known beforehand are kept.

        It still ranks candidates by how near they come to the limits where none seems to keep them.
        """
        log_C = np.zeros(len(rows_CD))
        for name in self.history.constraints:
            violations_N = self.history.violations_N(name)
            told_N = np.isfinite(violations_N) & self.design.mask_N()
            if name not in self.functions.limits and (violations_N[told_N] > LIMIT).any():
                fitted = self._kernel(f"limit {name}", violations_N)
                scale = scale_of(violations_N[told_N], LIMIT)
                limit = float(scale.apply([LIMIT])[0])
                told = self._told(scale.apply(violations_N), scale.doubt(violations_N))
                surrogate = (Process if self.many else Surrogate)(told, fitted, limit)
                log_C += surrogate.predict(rows_CD).log_below(limit)
        return log_C

    def cost(self, pool: Sequence[Candidate], rows_CD: Floats) -> Floats:
        """Returns the divisor of each candidate's improvement: its cost as predicted from other trials, else as given,
        else 1.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            log_N = np.log(self.history.cost_N)
        if (np.isfinite(log_N) & self.design.mask_N()).sum() >= FEWEST_COMPLETE:
            scale = scale_of(log_N)
            told = self._told(scale.apply(log_N), scale.doubt(log_N))
            surrogate = (Process if self.many else Surrogate)(told, self._kernel("cost", log_N))
            cost_C = np.exp(surrogate.smoothed(rows_CD))
        elif self.functions.cost:
            cost_C = np.array([self._told_cost(self.functions.cost, candidate) for candidate in pool])
        else:
            return np.ones(len(pool))
        weighted: Floats = cost_C**COST_WEIGHT
        return weighted

    def _told_cost(self, cost: Callable[[Any], float], candidate: Candidate) -> float:
        """Asks for the cost once a candidate, since most of a pool stays the same."""
        if len(self._costs) > MOST_CACHED:
            self._costs.clear()
        if candidate.key not in self._costs:
            self._costs[candidate.key] = cost(candidate.configuration)
        return self._costs[candidate.key]


def scheduled(count: int) -> int:
    """Returns the largest of 1, 2, 3 … 10, 11, 13, 15 … (a tenth more each) that is not above `count`."""
    step = 0
    while (following := max(step + 1, math.ceil(step * REFIT_GROWTH))) <= count:
        step = following
    return step
