"""Turns trials and candidates into rows of numbers for the surrogates, and tells which trials can be described so.

A trial is described when the space gives exactly its parameters and all its cheap objectives are known. Other trials
(an architecture that the space lacks) count with their results, but teach the surrogate nothing.

Shapes: N finished trials, C candidates, K cheap objectives, D columns.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.samplers.candidates import Candidate, Key, SpaceFunction, replay_candidate
from nas.samplers.encoding import MOST_CACHED, CandidateRows
from nas.samplers.outliers import scale_of
from nas.samplers.point_sets import Floats
from nas.samplers.trial_history import GrowingArray, ObservedTrial, TrialHistory

FURTHEST = 1e3
"""No known objective counts as further from the usual ones than so many standard deviations."""


class DesignMatrix:
    """Turns the trials and candidates of one study into rows. Without `space`, candidates are their parameters.

    `yardstick`: the candidates over which columns are scaled, once for the whole study, so that a kernel keeps its
    meaning. Without it, the `first` described trials are taken.
    """

    def __init__(
        self,
        history: TrialHistory,
        cheap: Mapping[int, Callable[[Any], float]],
        features: Callable[[Any], Sequence[float]] | None,
        space: SpaceFunction | None,
        yardstick: Sequence[Candidate],
        first: int,
    ) -> None:
        self.history, self.space, self.yardstick, self.first = history, space, yardstick, first
        self._cheap, self._own_rows = cheap, CandidateRows(features)
        self._cheap_values: dict[Key, dict[int, float]] = {}
        self._observed: dict[int, tuple[ObservedTrial, Candidate | None]] = {}
        self._mask = GrowingArray(1)
        self._scale: tuple[Floats, Floats] | None = None

    @property
    def version(self) -> int:
        """Returns the version of the columns. It rises when an unknown parameter appears."""
        return self._own_rows.version

    def candidate(self, trial: ObservedTrial) -> Candidate | None:
        """Returns the candidate that was tried; None if it is not described."""
        known = self._observed.get(trial.number)
        if known is None or not (known[0] is trial or _same_choices(known[0], trial)):
            self._observed[trial.number] = known = (trial, self._found(trial))
        return known[1]

    def candidates(self, trials: Sequence[ObservedTrial]) -> list[Candidate]:
        """Returns the candidates of those trials that are described."""
        return [candidate for candidate in map(self.candidate, trials) if candidate]

    def mask_N(self) -> NDArray[np.bool_]:
        """Tells which of the finished trials are described."""
        for trial in self.history.done[len(self._mask) :]:
            self._mask.append([float(self.candidate(trial) is not None)])
        return self._mask.array()[:, 0] > 0

    def cheap_of(self, candidate: Candidate) -> Mapping[int, float]:
        """Returns the cheap objectives by index, minimised and on their scales; NaN where one is not known."""
        if candidate.key not in self._cheap_values:
            if len(self._cheap_values) > MOST_CACHED:
                self._cheap_values.clear()
            told: list[float | None] = [None] * len(self.history.directions)
            for m, function in self._cheap.items():
                told[m] = function(candidate.configuration)
            internal = self.history.internal(told)
            self._cheap_values[candidate.key] = {m: internal[m] for m in self._cheap}
        return self._cheap_values[candidate.key]

    def rows(self, candidates: Sequence[Candidate]) -> Floats:
        """Returns (C, D): the features, and the cheap objectives beside them, since latency tells much about
        quality.
        """
        centre_K, scale_K = self._scale or self._set_scale()
        with np.errstate(over="ignore"):
            unlike_CK = (self._cheap_CK(candidates) - centre_K) / scale_K
        unlike_CK = np.clip(unlike_CK, -FURTHEST, FURTHEST)
        return np.concatenate([self._own_rows.of(candidates), unlike_CK], axis=1)

    def _set_scale(self) -> tuple[Floats, Floats]:
        yardstick = self.yardstick or self.candidates(self.history.done)[: self.first]
        self._own_rows.scale_over(yardstick)
        cheap_CK = self._cheap_CK(yardstick)
        known_NK = cheap_CK[np.isfinite(cheap_CK).all(axis=1)]
        for k in range(len(self._cheap)):
            known_NK[:, k] = scale_of(known_NK[:, k]).apply(known_NK[:, k])
        centre_K, spread_K = _centre_and_spread(known_NK)
        self._scale = centre_K, np.where(spread_K > 0, spread_K, 1.0)
        return self._scale

    def _cheap_CK(self, candidates: Sequence[Candidate]) -> Floats:
        return np.array([list(self.cheap_of(c).values()) for c in candidates]).reshape(
            len(candidates), len(self._cheap)
        )

    def _found(self, trial: ObservedTrial) -> Candidate | None:
        if not trial.params:
            return None
        found = Candidate(trial.params, trial.distributions, trial.params)
        if self.space:
            found = replay_candidate(self.space, trial.params)
            if any(name not in trial.params or trial.params[name] != value for name, value in found.params.items()):
                return None
        return found if all(map(math.isfinite, self.cheap_of(found).values())) else None


def _same_choices(known: ObservedTrial, trial: ObservedTrial) -> bool:
    return known.params == trial.params and known.distributions == trial.distributions


def _centre_and_spread(known_NK: Floats) -> tuple[Floats, Floats]:
    """Returns means and standard deviations, 0 of nothing, computed in units in which no square overflows."""
    if not len(known_NK):
        return np.zeros(known_NK.shape[1]), np.zeros(known_NK.shape[1])
    exponent_K = np.frexp(np.abs(known_NK).max(axis=0))[1]
    scaled_NK = np.ldexp(known_NK, -exponent_K)
    return np.ldexp(scaled_NK.mean(axis=0), exponent_K), np.ldexp(scaled_NK.std(axis=0), exponent_K)
