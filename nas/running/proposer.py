"""Proposes the next architecture: by Optuna samplers, ours or stock, over an in-memory mirror of the study's rows.

The mirror keeps the samplers' bookkeeping out of the database. A proposal reaches the database as one finished row,
written in one transaction, so there are no half-made trials and no rows for duplicates. Every draw makes a new sampler
from f(study seed, trial number, draw), so a resumed study proposes what the uninterrupted one would have proposed.
"""

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.search_space.group_decomposed import _GroupDecomposedSearchSpace
from optuna.trial import FrozenTrial, TrialState

from nas.results import Constraint, Objective, Rung, rungs_of
from nas.running.architecture_features import Describe
from nas.running.architecture_sampler import Choice, pareto_sampler
from nas.samplers.pareto_sampler import PREDICTED, ParetoSampler
from nas.samplers.trial_history import COST, KNOWN_VALUES, RUNG_VALUES
from nas.space.parameter_space import Design, SearchSpace
from nas.study.store import directions, quietly

MODEL_DRAWS = 5
"""The sampler draws so often before uniform draws begin: TPE has proposed 50 duplicates in a row."""
RANDOM_DRAWS = 200
"""So many uniform draws are made before the space is walked through for what is left."""


MEASURING_SECONDS = 2.0
"""The approximate seconds that a trial takes besides its training."""


@dataclass(frozen=True)
class Proposal:
    """Holds an architecture that the study does not hold yet, with all that its row needs."""

    key: str
    architecture: Design
    learning_rate: float | None
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    system: Mapping[str, Any]
    redraws: int
    """The number of duplicates that were drawn before it."""
    mirror_id: int
    predicted: Mapping[str, float]
    """The expected value of each objective before anything was measured; empty without a model."""


def seed_of(*parts: int | str) -> int:
    """Makes a seed from the study's seed, the trial's number, and whatever distinguishes two draws."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def key_of(architecture_id: str, learning_rate: float | None) -> str:
    """Returns what makes two trials the same: the architecture, and the learning rate where that is searched."""
    return architecture_id if learning_rate is None else f"{architecture_id}@{learning_rate!r}"


def grouped_tpe(seed: int) -> TPESampler:
    """Makes TPESampler(multivariate=True, group=True, seed=seed) without its warning that `group` is experimental.

    Proposals are made in a thread, where a warning cannot be ignored for a moment: filters belong to all threads.
    """
    sampler = TPESampler(multivariate=True, seed=seed)
    sampler._group, sampler._group_decomposed_search_space = True, _GroupDecomposedSearchSpace(True)
    return sampler


STOCK: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": grouped_tpe,
    "nsga2": lambda seed: NSGAIISampler(population_size=20, seed=seed),
    "gp": lambda seed: GPSampler(seed=seed, deterministic_objective=False),
    "random": lambda seed: RandomSampler(seed=seed),
}
BEST = "pareto"


class Proposer:
    """Proposes architectures from what the rows tell. Not thread-safe: one thread owns it."""

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        sampler: str,
        seed: int,
        learning_rates: Sequence[float] = (),
        constraints: Sequence[Constraint] = (),
        describe: Describe | None = None,
        steps: int = 1,
        ordinal: int = 0,
    ) -> None:
        """`steps` is the length of a full training.

        `describe` computes what is known of an architecture without measuring it. `ordinal` tells apart the draws of
        drivers that search together; 0 draws what a single driver draws.
        """
        self.space, self.seed, self.objectives, self.steps = space, seed, objectives, steps
        self._who = (f"driver {ordinal}",) if ordinal else ()
        self.learning_rates = list(learning_rates) if len(learning_rates) > 1 else []
        name = BEST if sampler == "auto" else sampler
        self._pareto: ParetoSampler | None = None
        if name == BEST:
            self._pareto = pareto_sampler(space, self._suggest, objectives, constraints, describe, seed)
        self._stock = STOCK.get(name, STOCK["random"])
        storage = optuna.storages.InMemoryStorage()
        with quietly():
            self._mirror = optuna.create_study(directions=directions(objectives), storage=storage)
        self._ids: dict[int, int] = {}

    def propose(self, number: int, taken: Set[str]) -> Proposal | None:
        """Returns the next architecture for the trial of that number; None when every one is in `taken`."""
        for draw in range(MODEL_DRAWS + RANDOM_DRAWS):
            proposal = self._draw(partial(self._sampler, number, draw), draw)
            if proposal.key not in taken:
                return proposal
            self.drop(proposal)
        left = [params for params, key in self._walk() if key not in taken]
        if not left:
            return None
        last = self.fixed(random.Random(seed_of(self.seed, number, "left", *self._who)).choice(left))
        return replace(last, redraws=MODEL_DRAWS + RANDOM_DRAWS)

    def fixed(self, params: Mapping[str, Any]) -> Proposal:
        """Returns the proposal with exactly these parameters (a baseline of the space, for example)."""
        self._mirror.enqueue_trial(dict(params))
        return self._draw(partial(STOCK["random"], self.seed), 0)

    def adopt(self, number: int, proposal: Proposal) -> None:
        """Records that the proposal has become the row of that number."""
        self._ids[number] = proposal.mirror_id

    def drop(self, proposal: Proposal) -> None:
        """Records that the proposal becomes no row, since the study has one with its key."""
        self._mirror.tell(self._trial(proposal.mirror_id).number, state=TrialState.FAIL)

    def absorb(self, row: FrozenTrial) -> None:
        """Takes in a row as it now stands in the database, once more where it is known."""
        state = row.state if row.state.is_finished() else TrialState.RUNNING
        rungs = rungs_of(row.user_attrs)
        known = self._known(row.user_attrs.get("metrics", {})) | self._at_rungs(rungs)
        if row.number not in self._ids:
            copy = optuna.trial.create_trial(
                state=state,
                values=row.values,
                params=row.params,
                distributions=row.distributions,
                user_attrs=known,
                system_attrs=dict(row.system_attrs),
            )
            # Samplers take trials in the order in which they ended, which is not that of their numbers.
            copy.datetime_complete = row.datetime_complete
            self._ids[row.number] = self._mirror._storage.create_new_trial(self._mirror._study_id, copy)
        elif not self._trial(self._ids[row.number]).state.is_finished():
            self._note(row.number, known)
            if state.is_finished():
                self.finished(row.number, state, row.values, row.constraints)

    def finished(
        self, number: int, state: TrialState, values: Sequence[float] | None, violations: Mapping[str, float]
    ) -> None:
        """Takes in the result of a row. The first one stays."""
        mirror_id = self._ids[number]
        if self._trial(mirror_id).state.is_finished():
            return
        for name, violation in violations.items():
            self._mirror._storage.set_trial_system_attr(mirror_id, f"constraints:{name}", violation)
        self._mirror._storage.set_trial_state_values(mirror_id, state, values)

    def measured(self, number: int, metrics: Mapping[str, float]) -> None:
        """Takes in what is known of a trial before it is trained."""
        self._note(number, self._known(metrics))

    def reached(self, number: int, rung: Rung) -> None:
        """Takes in one more rung of a trial."""
        earlier = self._trial(self._ids[number]).user_attrs.get(RUNG_VALUES, [])
        noted = self._at_rungs([rung])
        self._note(number, noted | {RUNG_VALUES: [*earlier, *noted[RUNG_VALUES]]})

    def optimistic(self, number: int, metrics: Mapping[str, float]) -> list[float] | None:
        """Returns a measured trial's objectives, with an optimistic bound on its quality; None where there is no
        model.
        """
        if self._pareto is None or number not in self._ids:
            return None
        known = self._known(metrics)[KNOWN_VALUES]
        return self._pareto.optimistic(self._mirror, self._trial(self._ids[number]), known)

    def _known(self, metrics: Mapping[str, float]) -> dict[str, Any]:
        return {KNOWN_VALUES: [metrics.get(o.metric) if o.means.cheap else None for o in self.objectives]}

    def _at_rungs(self, rungs: Sequence[Rung]) -> dict[str, Any]:
        """Returns the values by step, and the seconds that all steps would take, where times are measured anyway.

        A study whose objectives are all exact repeats exactly, so its proposals must not depend on measured times.
        """
        if not rungs:
            return {}
        values = [[rung.step, [rung.metrics.get(o.metric) for o in self.objectives]] for rung in rungs]
        timed = not all(o.means.exact for o in self.objectives) and rungs[-1].seconds > 0
        seconds = MEASURING_SECONDS + rungs[-1].seconds / rungs[-1].step * self.steps
        return {RUNG_VALUES: values} | ({COST: seconds} if timed else {})

    def _note(self, number: int, attributes: Mapping[str, Any]) -> None:
        for key, value in attributes.items():
            self._mirror._storage.set_trial_user_attr(self._ids[number], key, value)

    def _sampler(self, number: int, draw: int) -> BaseSampler:
        """Makes the sampler for one draw. It keeps no earlier state, so a resumed study proposes the same."""
        if draw >= MODEL_DRAWS:
            return STOCK["random"](seed_of(self.seed, number, draw, *self._who))
        if self._pareto is None:
            return self._stock(seed_of(self.seed, number, draw, *self._who))
        self._pareto.stream = ":".join(map(str, (number, draw, *self._who)))
        return self._pareto

    def _suggest(self, chooser: Any) -> Choice:
        architecture = self.space.suggest(chooser)
        rates = self.learning_rates
        return Choice(architecture, chooser.suggest_categorical("learning_rate", rates) if rates else None)

    def _draw(self, make: Callable[[], BaseSampler], redraws: int) -> Proposal:
        self._mirror.sampler = make()
        trial = self._mirror.ask()
        choice = self._suggest(trial)
        frozen = self._trial(trial._trial_id)
        # Generations of a genetic sampler must survive a resume; TPE's own notes are of the moment.
        system = {k: v for k, v in frozen.system_attrs.items() if k.endswith(":generation")}
        predicted = frozen.system_attrs.get(PREDICTED)
        return Proposal(
            key=key_of(choice.architecture.id, choice.learning_rate),
            architecture=choice.architecture,
            learning_rate=choice.learning_rate,
            params=frozen.params,
            distributions=frozen.distributions,
            system=system,
            redraws=redraws,
            mirror_id=trial._trial_id,
            predicted={o.metric: v for o, v in zip(self.objectives, predicted or (), strict=False)},
        )

    def _trial(self, mirror_id: int) -> FrozenTrial:
        return self._mirror._storage.get_trial(mirror_id)

    def _walk(self) -> list[tuple[dict[str, Any], str]]:
        """Yields every choice of parameters with its key.

        Only small spaces are walked: others never run out of new draws.
        """
        rates: list[float | None] = list(self.learning_rates) or [None]
        return [
            (params if rate is None else {**params, "learning_rate": rate}, key_of(architecture.id, rate))
            for params, architecture in self.space.walk()
            for rate in rates
        ]
