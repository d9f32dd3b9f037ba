"""The `pareto` sampler: proposes what is expected to add most hypervolume to the front, for what it costs to train.

Usable in any Optuna study of 1 to 4 objectives:

    sampler = ParetoSampler(space, cheap={1: latency_of}, seed=0)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)

A proposal is the best of a pool by expected hypervolume improvement: draws of the space, and neighbours of what is
near the front. Objectives in `cheap` are known without training and taken as they are; each other objective, and
each constraint, is predicted by a Gaussian process over the parameters (nas.search.surrogate). Trials that ended at a
rung teach at their own budget (nas.search.fidelity). The first trials fill the space.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.errors import UsageError
from nas.search.candidates import Candidate, Drawing, Space, drawn, key_of, neighbours, replayed, space_of
from nas.search.history import History
from nas.search.improvement import FRONT_LIMITS
from nas.search.outlook import Features, Outlook, Quantities

STARTUP = 10
BASE_POOL, FRESH, NEIGHBOURS = 1000, 100, 200
PREDICTED = "predicted_values"
"""System attribute of a proposed trial: what was expected of each objective before it was trained, or null."""


class ParetoSampler(BaseSampler):
    """See the module.

    space: draws one configuration with a chooser and returns what `cheap`, `features` and `cost` take. Without it the
        configurations are those that earlier trials have shown, after random ones.
    cheap: objective index → its exact value without training; NaN for a configuration that is not to be proposed.
    limits: constraint name → its exact violation without training (<= 0 is feasible).
    features: what the surrogate sees, numbers of a fixed length; by default the parameters themselves.
    cost: what training a configuration takes, in any unit; by default all cost the same.
    logarithmic: for each objective, whether the hypervolume is that of its logarithm (of positive values only).
    startup: trials that fill the space before the first model.

    Each proposal depends on the seed, the trial's number (or `stream`) and the other trials alone, never on proposals
    made before: a study that is loaded again goes on as if it had never stopped.
    Raises UsageError when a study has more than 4 objectives.
    """

    def __init__(
        self,
        space: Space | None = None,
        *,
        cheap: Mapping[int, Callable[[Any], float]] | None = None,
        limits: Mapping[str, Callable[[Any], float]] | None = None,
        features: Callable[[Any], Sequence[float]] | None = None,
        cost: Callable[[Any], float] | None = None,
        logarithmic: Sequence[bool] | None = None,
        startup: int = STARTUP,
        seed: int | None = None,
    ) -> None:
        self.space, self.startup = space, startup
        self.seed = random.SystemRandom().getrandbits(31) if seed is None else seed
        self.stream: str | None = None
        self._quantities = Quantities(cheap or {}, limits or {}, cost)
        self._features, self._logarithmic = features, logarithmic
        self._independent = RandomSampler(seed=self.seed)
        self._study: str | None = None
        self._outlook: Outlook | None = None
        self._chosen: dict[int, Candidate] = {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The proposal is made here, since which parameters there are depends on it."""
        if "fixed_params" in trial.system_attrs:
            return {}
        candidate = self._propose(study, trial)
        if candidate is None:
            return {}
        self._chosen[trial._trial_id] = candidate
        return dict(candidate.distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return dict(self._chosen.pop(trial._trial_id).params) if search_space else {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Of what the space did not tell: a uniform draw."""
        generator = self._generator(trial, param_name)
        return Drawing(generator).choose(param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Nothing to do: draws depend on the trial, so that workers which share a seed differ."""

    def optimistic(self, study: Study, trial: FrozenTrial, known: Sequence[float | None]) -> list[float] | None:
        """Values that a measured trial will hardly beat: `known` where it has one, else a bound from the surrogate.

        None while too little is trained to say.
        """
        outlook = self._up_to_date(study, trial)
        if self.space is None or not outlook.ready(self.startup):
            return None
        return outlook.bound(replayed(self.space, trial.params), known)

    def _propose(self, study: Study, trial: FrozenTrial) -> Candidate | None:
        outlook = self._up_to_date(study, trial)
        history, generator = outlook.history, self._generator(trial, "pool")
        ready = outlook.ready(self.startup)
        space = self.space or (space_of(t for t in study.get_trials(deepcopy=False)) if ready else None)
        if space is None:
            return None
        pool = self._pool(space, outlook, generator, history)
        if not pool:
            return None
        if not ready:
            return outlook.furthest(pool, generator)
        best, predicted = outlook.best(pool)
        study._storage.set_trial_system_attr(trial._trial_id, PREDICTED, predicted)
        return best

    def _pool(self, space: Space, outlook: Outlook, generator: random.Random, history: History) -> list[Candidate]:
        """Distinct candidates that no trial has, and that every cheap objective is known of."""
        found = list(outlook.base)
        fresh = FRESH if self.space else BASE_POOL
        found += [drawn(space, Drawing(generator)) for _ in range(fresh)]
        if parents := outlook.parents():
            found += neighbours(space, parents, NEIGHBOURS, generator)
        taken = history.taken | {key_of(past.params) for past in history.open}
        distinct = {candidate.key: candidate for candidate in found}
        return [c for key, c in distinct.items() if key not in taken and outlook.may_be_proposed(c)]

    def _up_to_date(self, study: Study, trial: FrozenTrial) -> Outlook:
        if self._outlook is None or self._study != study.study_name:
            if len(study.directions) > max(FRONT_LIMITS):
                raise UsageError(
                    f"the pareto sampler takes at most {max(FRONT_LIMITS)} objectives, not {len(study.directions)}"
                )
            logarithmic = self._logarithmic or [False] * len(study.directions)
            self._study = study.study_name
            base = self._base() if self.space else []
            history = History(study.directions, logarithmic)
            self._outlook = Outlook(history, self._quantities, Features(self._features, self.space), base)
        self._outlook.history.update(study, trial.number)
        return self._outlook

    def _base(self) -> list[Candidate]:
        """Draws that stay the same for the whole study, so that they are made and described once."""
        assert self.space is not None
        generator = random.Random(f"{self.seed}:base")
        found = (drawn(self.space, Drawing(generator)) for _ in range(BASE_POOL))
        return list({candidate.key: candidate for candidate in found}.values())

    def _generator(self, trial: FrozenTrial, purpose: str) -> random.Random:
        return random.Random(f"{self.seed}:{self.stream or trial.number}:{purpose}")
