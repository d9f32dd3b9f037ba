"""The `pareto` sampler proposes the trial with the most expected hypervolume improvement for its cost of training.

It works in any Optuna study, best with 1 to 4 objectives:

    sampler = ParetoSampler(space, cheap={1: latency_of}, seed=0)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)

A proposal is the best of a pool by expected hypervolume improvement. The pool holds draws of the space, and neighbours
of trials near the front. Objectives in `cheap` are known without training and taken as they are. A Gaussian process
over the parameters (nas.samplers.surrogate) predicts each other objective and each constraint. Trials that ended at a
rung count with their own budget (nas.samplers.rung_regression). The first trials fill the space.
"""

import math
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas.samplers.candidates import (
    Candidate,
    RandomChooser,
    SpaceFunction,
    draw_candidate,
    key_of,
    neighbour,
)
from nas.samplers.known_choices import PLAIN, KnownChoices
from nas.samplers.scorer import Scorer
from nas.samplers.shared_pool import SharedPool, shared_pool
from nas.samplers.study_model import CheapFunctions, StudyModel
from nas.samplers.trial_history import ENQUEUED, PROPOSED, TrialHistory

CONSTRAINTS = "constraints"
"""The system attribute in which Optuna keeps what `constraints_func` returns."""
BASE_POOL, FRESH, NEIGHBOURS = 1000, 100, 200
PREDICTED = "predicted_values"
"""The system attribute of a proposed trial: the expected value of each objective before training."""


class ParetoSampler(BaseSampler):
    """Samples as the module describes.

    space: draws one configuration with a chooser and returns what `cheap`, `features` and `cost` take. Without it the
        configurations are those that earlier trials have shown, after random ones.
    cheap: objective index → its exact value without training; NaN for a configuration that is not to be proposed.
    limits: constraint name → its exact violation without training; above 0 it is not proposed either.
    features: what the surrogate sees, numbers of a fixed length; by default the parameters themselves.
    cost: what training a configuration takes, in any unit, until trials tell (`COST` in nas.samplers.trial_history); by
        default all cost the same.
    logarithmic: for each objective, whether the hypervolume is that of its logarithm (of positive values only).
    n_startup_trials: trials that fill the space before the first model.
    constraints_func: what a finished trial violates, values above 0, as other samplers of Optuna take it. Optuna 5 has
        `Trial.set_constraint` instead, which needs no function here.

    No trial gets the parameters of another while a few thousand draws still find new ones that may be proposed. After
    that, the best of those repeat. Parameters that the space lacks are drawn at random.

    Each proposal depends only on the seed, the trial's number (or `stream`) and the other trials, never on earlier
    proposals. So a study that is loaded again continues as if it had never stopped. While 16 or more trials run, some
    proposals in a row share one pool, and depend on when that was made (nas.samplers.shared_pool). Several threads may
    use one sampler, and one sampler may serve several studies in turn.

    With more than 4 objectives a part of the front stands for all of it: 10 points with 5, 2 with 9 and more.

    Asking raises ValueError when `cheap` or `logarithmic` do not fit the study's objectives.
    """

    def __init__(
        self,
        space: SpaceFunction | None = None,
        *,
        cheap: Mapping[int, Callable[[Any], float]] | None = None,
        limits: Mapping[str, Callable[[Any], float]] | None = None,
        features: Callable[[Any], Sequence[float]] | None = None,
        cost: Callable[[Any], float] | None = None,
        logarithmic: Sequence[bool] | None = None,
        n_startup_trials: int = 10,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
        seed: int | None = None,
    ) -> None:
        """Raises ValueError when `n_startup_trials` is below 0."""
        if n_startup_trials < 0:
            raise ValueError(f"n_startup_trials must be 0 or more, got {n_startup_trials}")
        self.space, self.n_startup_trials, self.constraints_func = space, n_startup_trials, constraints_func
        self.seed = random.SystemRandom().getrandbits(31) if seed is None else seed
        self.stream: str | None = None
        self._functions = CheapFunctions(cheap or {}, limits or {}, cost)
        self._features, self._logarithmic = features, logarithmic
        self._start_anew()

    def _start_anew(self) -> None:
        self._lock = threading.RLock()
        self._study: tuple[BaseStorage, int] | None = None
        self._model: StudyModel | None = None
        self._shared: SharedPool | None = None
        self._choices = KnownChoices()
        self._chosen: dict[int, tuple[int, Candidate]] = {}
        """Thread → the trial for which it proposes, and the proposal."""

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what was computed from a study, since that is computed again."""
        gathered = ("_lock", "_study", "_model", "_chosen", "_shared", "_choices")
        return {name: value for name, value in vars(self).items() if name not in gathered}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start_anew()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Makes the proposal here, since the set of parameters depends on it."""
        if ENQUEUED in trial.system_attrs:
            return {}
        with self._lock:
            candidate = self._propose(study, trial)
            if candidate is None:
                return {}
            if all(isinstance(value, PLAIN) for value in candidate.params.values()):
                study._storage.set_trial_system_attr(trial._trial_id, PROPOSED, dict(candidate.params))
            self._chosen[threading.get_ident()] = trial._trial_id, candidate
        return dict(candidate.distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Returns the proposal. Where it was not made for these parameters, it proposes again within this search
        space.
        """
        asked_for, candidate = self._chosen.pop(threading.get_ident(), (None, None))
        if not search_space:
            return {}
        if candidate is None or asked_for != trial._trial_id or not search_space.keys() <= candidate.params.keys():
            candidate = self._within(study, trial, search_space)
        return {name: candidate.params[name] for name in search_space}

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Stores what `constraints_func` says of the trial where Optuna looks for it."""
        if self.constraints_func is None or state not in (TrialState.COMPLETE, TrialState.PRUNED):
            return
        violations = tuple(map(float, self.constraints_func(trial)))
        if any(map(math.isnan, violations)):
            raise ValueError(f"constraints_func returned NaN for trial {trial.number}")
        study._storage.set_trial_system_attr(trial._trial_id, CONSTRAINTS, violations)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draws uniformly a parameter that the space lacks."""
        generator = self._generator(trial, param_name)
        return RandomChooser(generator).choose(param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Does nothing: draws depend on the trial, so workers that share a seed still differ."""

    def optimistic(self, study: Study, trial: FrozenTrial, known: Sequence[float | None]) -> list[float] | None:
        """Returns values that a measured trial will hardly beat: `known` where it has one, else the surrogate's bound.

        None while too few trials are trained for a bound, and for parameters outside the space.
        """
        with self._lock:
            model = self._up_to_date(study, trial)
            return model.bound(model.history.read(trial), known)

    def expected_below(
        self, study: Study, trial: FrozenTrial, known: Sequence[float | None], sds: float
    ) -> list[float] | None:
        """Returns what `optimistic` does, with so many standard deviations below the expected value as the bound."""
        with self._lock:
            model = self._up_to_date(study, trial)
            return model.bound(model.history.read(trial), known, sds)

    def _within(self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]) -> Candidate:
        """Proposes these parameters: at random at first, and where they are not those of the space."""

        def space(chooser: RandomChooser) -> Mapping[str, Any]:
            return {name: chooser.choose(name, distribution) for name, distribution in search_space.items()}

        with self._lock:
            proposal = self._propose(study, trial, space) if self.space is None else None
        return proposal or draw_candidate(space, RandomChooser(self._generator(trial, "within")))

    def _propose(self, study: Study, trial: FrozenTrial, asked: SpaceFunction | None = None) -> Candidate | None:
        """Returns the best of a pool. Without a space there is none until the model is ready."""
        model = self._up_to_date(study, trial)
        generator = self._generator(trial, "pool")
        space = self.space or ((asked or model.shown_space()) if model.ready else None)
        if space is None:
            return None
        if shared := self._from_shared_pool(model):
            return self._expecting(study, trial, *shared)
        pool = self._pool(space, model, generator)
        if len(pool) < 2:
            return pool[0] if pool else None
        if model.many and self.space and self._free(pool[:1], model):
            self._shared = shared_pool(model, pool)
            if shared := self._shared.propose():
                return self._expecting(study, trial, *shared)
        if not model.ready:
            return model.furthest(pool, generator)
        scorer = Scorer(model)
        score_C = scorer.scores(pool)
        best = pool[int(score_C.argmax())] if score_C.max() > -math.inf else model.furthest(pool, generator)
        return self._expecting(study, trial, best, scorer.expected(best))

    def _from_shared_pool(self, model: StudyModel) -> tuple[Candidate, list[float] | None] | None:
        """Returns the next proposal of the pool that earlier ones came from, while that one still holds."""
        if self._shared and self._shared.serves(model):
            return self._shared.propose()
        self._shared = None
        return None

    def _expecting(
        self, study: Study, trial: FrozenTrial, candidate: Candidate, expected: list[float] | None
    ) -> Candidate:
        if expected is not None:
            study._storage.set_trial_system_attr(trial._trial_id, PREDICTED, expected)
        return candidate

    def _pool(self, space: SpaceFunction, model: StudyModel, generator: random.Random) -> list[Candidate]:
        """Draws from the space and from the neighbours of the front: new candidates, if any are left."""
        found = list(model.base)
        found += self._draws(space, generator, FRESH if self.space else BASE_POOL)
        if parents := model.parents():
            choices = self._choices
            found += [neighbour(space, parents[i % len(parents)], generator, choices) for i in range(NEIGHBOURS)]
        free = self._free(found, model)
        if not free:
            found += self._draws(space, generator, BASE_POOL)
            free = self._free(found, model)
        return free or [c for c in {c.key: c for c in found}.values() if model.may_be_proposed(c)]

    def _draws(self, space: SpaceFunction, generator: random.Random, count: int) -> list[Candidate]:
        return [draw_candidate(space, RandomChooser(generator, known=self._choices)) for _ in range(count)]

    def _free(self, candidates: Sequence[Candidate], model: StudyModel) -> list[Candidate]:
        """Returns the distinct candidates that no trial has and that may be proposed."""
        history = model.history
        opened = {key_of(trial.params) for trial in history.open}
        distinct = {candidate.key: candidate for candidate in candidates}
        free = (c for key, c in distinct.items() if key not in history.taken and key not in opened)
        return [c for c in free if model.may_be_proposed(c)]

    def _up_to_date(self, study: Study, trial: FrozenTrial) -> StudyModel:
        known = self._study is not None and self._study[0] is study._storage and self._study[1] == study._study_id
        if self._model is None or not known:
            logarithmic = [False] * len(study.directions) if self._logarithmic is None else self._logarithmic
            self._check(len(study.directions), len(logarithmic))
            self._study, self._shared = (study._storage, study._study_id), None
            base = self._base() if self.space else []
            history = TrialHistory(study.directions, logarithmic)
            self._model = StudyModel(history, self._functions, self._features, self.space, base, self.n_startup_trials)
        self._model.history.update(study, trial.number)
        return self._model

    def _check(self, objectives: int, scales: int) -> None:
        cheap = list(self._functions.cheap)
        if scales != objectives:
            raise ValueError(f"`logarithmic` has {scales} entries; it needs one for each of {objectives} objectives")
        if not set(cheap) <= set(range(objectives)):
            raise ValueError(f"`cheap` has the objectives {cheap}; the study has 0 to {objectives - 1}")

    def _base(self) -> list[Candidate]:
        """Makes the draws that stay the same for the whole study, so that they are made and described once."""
        assert self.space is not None
        generator = random.Random(f"{self.seed}:base")
        found = self._draws(self.space, generator, BASE_POOL)
        return list({candidate.key: candidate for candidate in found}.values())

    def _generator(self, trial: FrozenTrial, purpose: str) -> random.Random:
        return random.Random(f"{self.seed}:{self.stream or trial.number}:{purpose}")
