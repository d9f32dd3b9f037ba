"""What is believed of candidates, given the trials so far: the pareto sampler's model, without Optuna's calls.

Shapes: N trials, C candidates, M objectives, D features.
"""

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

from nas.search.candidates import Candidate, Key, Space, replayed
from nas.search.encoding import Encoding
from nas.search.history import History, Past
from nas.search.improvement import (
    Belief,
    Floats,
    Known,
    LogNormal,
    expected_improvement,
    nondominated,
)
from nas.search.surrogate import Observations, Surrogate, kernel

FEWEST_COMPLETE, FEWEST_FOR_BOUND = 3, 8
BOUND_SDS = 2.33
"""Standard deviations below the mean: about 1 trial in 100 is better, if the surrogate is right."""
REFIT_GROWTH = 1.1
PARENTS, FRONT_POOL = 12, 64
COST_WEIGHT = 0.5
"""The power of the cost that an improvement is divided by."""


@dataclass(frozen=True)
class Quantities:
    """What is known of a candidate's meaning without training."""

    cheap: Mapping[int, Callable[[Any], float]]
    limits: Mapping[str, Callable[[Any], float]]
    cost: Callable[[Any], float] | None


class Features:
    """Candidates as rows of numbers, each worked out once. Parameters are scaled over the base pool, or over the first
    rows seen; own features are taken as they are.
    """

    def __init__(self, custom: Callable[[Any], Sequence[float]] | None, space: Space | None) -> None:
        self.custom, self.space = custom, space
        self._encoding = Encoding([])
        self._rows: dict[Key, Floats] = {}
        self._scale_D: Floats | None = None

    def of(self, candidates: Sequence[Candidate]) -> Floats:
        """(C, D)."""
        if self.custom is None:
            unknown = [c.distributions for c in candidates if not c.distributions.keys() <= self._encoding.known.keys()]
            if unknown:
                self._encoding = Encoding([self._encoding.known, *unknown])
                self._rows, self._scale_D = {}, None
        new = [c for c in candidates if c.key not in self._rows]
        if new:
            raw = self._encoding.rows(c.params for c in new) if self.custom is None else self._described(new)
            self._rows |= {c.key: row for c, row in zip(new, raw, strict=True)}
        rows_CD = np.array([self._rows[c.key] for c in candidates])
        if self._scale_D is None:
            self._scale_D = self._encoding.scales(rows_CD) if self.custom is None else np.ones(rows_CD.shape[1])
        return rows_CD / self._scale_D

    def _described(self, candidates: Sequence[Candidate]) -> Floats:
        assert self.custom is not None
        return np.array([self.custom(c.meaning) for c in candidates], dtype=float)


class Outlook:
    """Surrogates over `history`, rebuilt when it has grown. `base`: the part of the pool that stays."""

    def __init__(self, history: History, quantities: Quantities, features: Features, base: list[Candidate]) -> None:
        self.history, self.quantities, self.base = history, quantities, base
        self._features = features
        self._cheap: dict[Key, tuple[float, ...]] = {}
        self._kernels: dict[int | str, tuple[int, Any]] = {}
        self._past: dict[int, Candidate] = {}
        self._cheap_scale: tuple[Floats, Floats] | None = None
        if base:
            self._features.of(base)

    def ready(self, startup: int) -> bool:
        informed = sum(past.complete or bool(past.rungs) for past in self.history.done)
        return informed >= startup and len(self._complete()) >= FEWEST_COMPLETE

    def may_be_proposed(self, candidate: Candidate) -> bool:
        """Whether its cheap objectives are known, and its known limits are kept."""
        if not all(math.isfinite(v) for v in self._cheap_of(candidate)):
            return False
        return all(limit(candidate.meaning) <= 0 for limit in self.quantities.limits.values())

    def furthest(self, pool: Sequence[Candidate], generator: random.Random) -> Candidate:
        """The candidate least like the trials so far, for what it costs; the cheapest or any one at the very first."""
        rows_CD = self._rows(pool)
        cost_C = self._cost(pool, rows_CD)
        tried = [self._candidate(past) for past in (*self.history.done, *self.history.open) if past.params]
        if not tried:
            return pool[int(cost_C.argmin())] if self.quantities.cost else generator.choice(pool)
        tried_ND = self._rows(tried)
        distance_C = np.sqrt(((rows_CD[:, None] - tried_ND[None]) ** 2).sum(axis=2)).min(axis=1)
        return pool[int((distance_C / cost_C).argmax())]

    def parents(self) -> list[Mapping[str, Any]]:
        """Parameters of the trials near the front, best layer first."""
        complete = [p for p in self._complete() if p.feasible]
        values_NM = self.history.values(complete)
        return [complete[i].params for i in _near_front(values_NM, PARENTS)]

    def best(self, pool: Sequence[Candidate]) -> tuple[Candidate, list[float | None]]:
        """The candidate with the most expected improvement for its cost, and what is expected of its objectives."""
        rows_CD = self._rows(pool)
        waiting = [p for p in self.history.open if not p.rungs]
        surrogates = self._surrogates(waiting)
        cheap_CM = np.array([self._cheap_of(c) for c in pool]).reshape(len(pool), -1)
        beliefs: list[Belief] = []
        for m in range(len(self.history.directions)):
            position = list(self.quantities.cheap).index(m) if m in self.quantities.cheap else None
            known = position is not None
            beliefs.append(Known(cheap_CM[:, position]) if known else surrogates[m].predict(rows_CD))
        front_NM = self._front(surrogates)
        score_C = expected_improvement(beliefs, front_NM, self._reference(beliefs))
        score_C = score_C * self._feasible(rows_CD) / self._cost(pool, rows_CD)
        winner = int(score_C.argmax())
        means = [b.value_C[winner] if isinstance(b, Known) else b.mean()[winner] for b in beliefs]  # type: ignore[attr-defined]
        return pool[winner], list(self.history.external([float(v) for v in means]))

    def bound(self, candidate: Candidate, known: Sequence[float | None]) -> list[float] | None:
        """The objectives at their known values, else as good as they may hardly be."""
        if len(self._complete()) < FEWEST_FOR_BOUND:
            return None
        surrogates, rows_1D = self._surrogates([]), self._rows([candidate])
        values = list(self.history.internal(known))
        for m, value in enumerate(values):
            if not math.isfinite(value):
                told = surrogates[m].predict(rows_1D)
                values[m] = told.shift + math.exp(float(told.mean_C[0]) - BOUND_SDS * float(told.sd_C[0]))
        return self.history.external(values)

    def _surrogates(self, waiting: Sequence[Past]) -> dict[int, Surrogate]:
        """For each objective that is not cheap; those of `waiting` trials count as if they turned out as expected."""
        found = {}
        for m in range(len(self.history.directions)):
            if m not in self.quantities.cheap:
                seen = self._observed(m, (*self.history.done, *self.history.open))
                fitted = self._kernel(m, self._told(m))
                surrogate = Surrogate(seen, fitted)
                unknown = [p for p in waiting if not math.isfinite(p.values_M[m])]
                if unknown:
                    rows_ND = self._rows([self._candidate(p) for p in unknown])
                    more = Observations(rows_ND, surrogate.smoothed(rows_ND), np.zeros(len(unknown)))
                    surrogate = Surrogate(seen.joined(more), fitted)
                found[m] = surrogate
        return found

    def _observed(self, m: int, pasts: Iterable[Past]) -> Observations:
        """Known values as they are, others extrapolated from their last rung."""
        who, y, spread = [], [], []
        for past in pasts:
            if math.isfinite(past.values_M[m]):
                told: tuple[float, float] | None = (past.values_M[m], 0.0)
            else:
                rungs = [(b, v[m]) for b, v in past.rungs if math.isfinite(v[m])]
                told = self.history.curves[m].extrapolate(*rungs[-1]) if rungs else None
            if told:
                who.append(self._candidate(past))
                y.append(told[0])
                spread.append(told[1])
        return Observations(self._rows(who), np.array(y), np.array(spread))

    def _kernel(self, what: int | str, told: Observations) -> Any:
        """Fitted anew when a tenth more trials have told a value, to the first so many, whenever it is asked."""
        count = scheduled(len(told))
        if self._kernels.get(what, (0, None))[0] != count:
            self._kernels[what] = (count, kernel(told.first(count)))
        return self._kernels[what][1]

    def _told(self, m: int) -> Observations:
        """Only values that are known to the end: what a rung stands for changes with later trials."""
        return self._observed(m, [past for past in self.history.done if math.isfinite(past.values_M[m])])

    def _front(self, surrogates: Mapping[int, Surrogate]) -> Floats:
        """Near the front, with the noise of training taken off; trials under way as they are expected to turn out."""
        complete = [past for past in self._complete() if past.feasible]
        kept = [complete[i] for i in _near_front(self.history.values(complete), FRONT_POOL)]
        pasts = [*kept, *(past for past in self.history.open if past.feasible)]
        if not pasts:
            return np.empty((0, len(self.history.directions)))
        values_NM = self.history.values(pasts)
        candidates = [self._candidate(past) for past in pasts]
        cheap_NM = np.array([self._cheap_of(c) for c in candidates]).reshape(len(pasts), -1)
        for position, m in enumerate(self.quantities.cheap):
            values_NM[:, m] = cheap_NM[:, position]
        rows_ND = self._rows(candidates)
        for m, surrogate in surrogates.items():
            values_NM[:, m] = surrogate.smoothed(rows_ND)
        return values_NM[np.isfinite(values_NM).all(axis=1)]

    def _reference(self, beliefs: Sequence[Belief]) -> Floats:
        """The worst known of each objective; where it must be predicted, a tenth of the range beyond it."""
        values_NM = self.history.values(self._complete())
        reference = []
        for m, belief in enumerate(beliefs):
            column = values_NM[:, m]
            if isinstance(belief, Known):
                reference.append(max(float(column.max()), float(belief.value_C.max())))
            else:
                reference.append(float(column.max()) + 0.1 * float(np.ptp(column)))
        return np.array(reference)

    def _feasible(self, rows_CD: Floats) -> Floats:
        """The probability that the limits which are not known beforehand are kept."""
        names = dict.fromkeys(name for past in self.history.done for name in past.violations)
        probability_C = np.ones(len(rows_CD))
        for name in names:
            if name in self.quantities.limits:
                continue
            told = [past for past in self.history.done if math.isfinite(past.violations.get(name, math.nan))]
            violations = np.array([past.violations[name] for past in told])
            if (violations <= 0).all():
                continue
            seen = Observations(self._rows([self._candidate(p) for p in told]), violations, np.zeros(len(told)))
            probability_C *= _below(0.0, Surrogate(seen, self._kernel(name, seen)).predict(rows_CD))
        return probability_C

    def _cost(self, pool: Sequence[Candidate], rows_CD: Floats) -> Floats:
        """What each candidate's improvement is divided by: as told, as predicted from what others took, or 1."""
        if self.quantities.cost:
            cost_C = np.array([self.quantities.cost(c.meaning) for c in pool])
        else:
            told = [past for past in self.history.done if past.cost > 0]
            if len(told) < FEWEST_COMPLETE:
                return np.ones(len(pool))
            costs = np.log([past.cost for past in told])
            seen = Observations(self._rows([self._candidate(p) for p in told]), costs, np.zeros(len(told)))
            cost_C = np.exp(Surrogate(seen, self._kernel("cost", seen)).smoothed(rows_CD))
        weighted: Floats = cost_C**COST_WEIGHT
        return weighted

    def _complete(self) -> list[Past]:
        return [past for past in self.history.done if past.complete and all(map(math.isfinite, past.values_M))]

    def _candidate(self, past: Past) -> Candidate:
        if past.number not in self._past:
            space = self._features.space
            found = replayed(space, past.params) if space else Candidate(past.params, past.distributions, past.params)
            self._past[past.number] = found
        return self._past[past.number]

    def _cheap_of(self, candidate: Candidate) -> tuple[float, ...]:
        if candidate.key not in self._cheap:
            told = [function(candidate.meaning) for function in self.quantities.cheap.values()]
            full: list[float | None] = [None] * len(self.history.directions)
            for m, value in zip(self.quantities.cheap, told, strict=True):
                full[m] = value
            internal = self.history.internal(full)
            self._cheap[candidate.key] = tuple(internal[m] for m in self.quantities.cheap)
        return self._cheap[candidate.key]

    def _rows(self, candidates: Sequence[Candidate]) -> Floats:
        """Features, and the cheap objectives beside them: latency tells much about quality."""
        own_CD = self._features.of(candidates)
        if not self.quantities.cheap:
            return own_CD
        cheap_CM = np.array([self._cheap_of(c) for c in candidates])
        if self._cheap_scale is None:
            known = cheap_CM[np.isfinite(cheap_CM).all(axis=1)]
            self._cheap_scale = (known.mean(axis=0), _spread(known))
        centre, scale = self._cheap_scale
        return np.concatenate([own_CD, (cheap_CM - centre) / scale], axis=1)


def scheduled(count: int) -> int:
    """The largest of 1, 2, 3 … 10, 11, 13, 15 … (a tenth more each) that is not above `count`."""
    step = 0
    while (following := max(step + 1, math.ceil(step * REFIT_GROWTH))) <= count:
        step = following
    return step


def _near_front(values_NM: Floats, count: int) -> list[int]:
    """Whole layers of non-domination, best first, until there are at least `count` rows or none is left."""
    left, found = np.arange(len(values_NM)), list[int]()
    while len(left) and len(found) < count:
        layer = nondominated(values_NM[left])
        found += [int(i) for i in left[layer]]
        left = np.delete(left, layer)
    return found


def _below(limit: float, belief: LogNormal) -> Floats:
    if limit <= belief.shift:
        return np.zeros(len(belief.mean_C))
    probability: Floats = ndtr((math.log(limit - belief.shift) - belief.mean_C) / belief.sd_C)
    return probability


def _spread(rows_CD: Floats) -> Floats:
    spread: Floats = rows_CD.std(axis=0)
    return np.where(spread > 0, spread, 1.0)
