"""Serves several proposals from one pool, while many trials run and few of them end in between.

A hundred workers ask for trials within seconds. Fitting, drawing and scoring for each of them anew costs more than it
gains: each proposal lacks the results of a hundred running trials, so one result more or less changes little. Here the
pool is made once for some results (`StudyModel.outdated`). Every proposal in between counts as a running trial at its
expected values, as in `StudyModel.front`: it joins the front, and narrows the predictions of candidates like it.

Scores only fall by this, but for rare exceptions. So the best ones are computed again, in order of their last score,
until none of the others had a higher one (Minoux 1978, "Accelerated greedy algorithms"; exact where scores only fall).

Shapes: C candidates, N points near the front, M objectives, D features.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nas.samplers.candidates import Candidate, key_of
from nas.samplers.gaussian_process import PoolProcess, Process
from nas.samplers.hypervolume_improvement import Exact, LogNormal, expected_improvement
from nas.samplers.point_sets import Floats, nearest_distance
from nas.samplers.scorer import Scorer, log_positive
from nas.samplers.study_model import StudyModel

RESCORED = 32
"""So many scores are computed at a time."""


class SharedPool:
    """Holds one pool, and which of its candidates are still free."""

    def __init__(self, model: StudyModel, pool: Sequence[Candidate], order: "ByScore | ByDistance") -> None:
        self.model, self.pool, self.order = model, pool, order
        self._index = {candidate.key: i for i, candidate in enumerate(pool)}
        self._ended, self._ready = model.history.ended, model.ready
        self._known = {trial.number for trial in model.history.open}
        self._free_C = np.ones(len(pool), dtype=bool)

    def serves(self, model: StudyModel) -> bool:
        """Tells whether the pool still holds for this model; if so, it takes in the trials that began meanwhile.

        A trial that began elsewhere, with parameters that are not of this pool, makes another pool necessary.
        """
        if model is not self.model or not model.many or model.outdated(self._ended) or model.ready != self._ready:
            return False
        for trial in model.history.open:
            if trial.number not in self._known:
                index = self._index.get(key_of(trial.params))
                if index is None:
                    return False
                self._known.add(trial.number)
                self._take(index)
        return True

    def propose(self) -> tuple[Candidate, list[float] | None] | None:
        """Takes the best free candidate, with its expected values; None when none is left that has a score."""
        while (index := self.order.best(self._free_C)) is not None:
            expected = self.order.expected(index)
            self._take(index)
            if self.pool[index].key not in self.model.history.taken:
                return self.pool[index], expected
        return None

    def _take(self, index: int) -> None:
        if self._free_C[index]:
            self._free_C[index] = False
            self.order.take(index)


class ByDistance:
    """Orders a pool as `StudyModel.furthest` does: the candidate least like all trials first, relative to its cost."""

    def __init__(self, model: StudyModel, pool: Sequence[Candidate]) -> None:
        self._rows_CD = model.design.rows(pool)
        self._cost_C = model.cost(pool, self._rows_CD)
        tried = model.design.candidates((*model.history.done, *model.history.open))
        self._distance_C = np.full(len(pool), np.inf)
        if tried:
            self._distance_C = nearest_distance(self._rows_CD, model.design.rows(tried))

    def best(self, free_C: Any) -> int | None:
        unlike_C = np.where(free_C, self._distance_C / self._cost_C, -math.inf)
        index = int(unlike_C.argmax())
        return index if unlike_C[index] > -math.inf else None

    def expected(self, index: int) -> list[float] | None:
        return None

    def take(self, index: int) -> None:
        self._distance_C = np.minimum(self._distance_C, nearest_distance(self._rows_CD, self._rows_CD[[index]]))


class ByScore:
    """Orders a pool by the scores of `Scorer`, with what was proposed since counted in."""

    def __init__(self, model: StudyModel, pool: Sequence[Candidate]) -> None:
        self.model, scorer = model, Scorer(model)
        rows_CD = model.design.rows(pool)
        self._front_NM, self._reference_M = scorer.front_NM, scorer.reference_M
        self._processes = {m: _over(process, rows_CD) for m, process in scorer.surrogates.items()}
        self._known = {m: model.cheap_values(m, pool) for m in model.functions.cheap}
        self._besides_C = model.log_feasible(rows_CD) - np.log(model.cost(pool, rows_CD))
        self._score_C = self._scores(np.arange(len(pool)))
        self._proposed = 0
        self._scored_C = np.zeros(len(pool), dtype=int)
        """Counts the proposals that each score takes into account."""

    def best(self, free_C: Any) -> int | None:
        """Returns the index of the best free candidate; None when no free one has a score."""
        self._score_C[~free_C] = -math.inf
        while True:
            first = np.argpartition(self._score_C, -RESCORED)[-RESCORED:] if len(free_C) > RESCORED else slice(None)
            which = np.arange(len(free_C))[first]
            stale = which[(self._scored_C[which] < self._proposed) & free_C[which]]
            best = int(self._score_C.argmax())
            if self._scored_C[best] == self._proposed or not len(stale):
                return best if self._score_C[best] > -math.inf else None
            self._score_C[stale] = self._scores(stale)
            self._scored_C[stale] = self._proposed

    def expected(self, index: int) -> list[float]:
        beliefs = self._beliefs(np.array([index]))
        return self.model.history.external([float(belief.mean()[0]) for belief in beliefs])

    def take(self, index: int) -> None:
        """Counts a candidate as a running trial."""
        values = [
            self._processes[m].median(index) if m in self._processes else float(self._known[m][index])
            for m in range(len(self._reference_M))
        ]
        self._front_NM = np.concatenate([self._front_NM, [values]])
        for process in self._processes.values():
            process.believe(index)
        self._proposed += 1

    def _scores(self, which: Any) -> Floats:
        improvement_C = expected_improvement(self._beliefs(which), self._front_NM, self._reference_M)
        scores_C: Floats = log_positive(improvement_C) + self._besides_C[which]
        return scores_C

    def _beliefs(self, which: Any) -> list[Exact | LogNormal]:
        return [
            self._processes[m].prediction(which) if m in self._processes else Exact(self._known[m][which])
            for m in range(len(self._reference_M))
        ]


def _over(process: Any, rows_CD: Floats) -> PoolProcess:
    assert isinstance(process, Process)  # while many trials run, StudyModel makes no other
    return process.over(rows_CD)


def shared_pool(model: StudyModel, pool: Sequence[Candidate]) -> SharedPool:
    """Makes a pool that is in order of score, or of distance while there is no model yet."""
    return SharedPool(model, pool, ByScore(model, pool) if model.ready else ByDistance(model, pool))
