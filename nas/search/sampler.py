"""Proposals: which architecture next. Stock Optuna samplers over an in-memory mirror of the study's rows.

The mirror keeps the samplers' bookkeeping out of the database: a proposal reaches it as one finished row, written
in one transaction, so there are no half-asked trials and no rows for duplicates. Every draw makes its sampler anew
from f(study seed, trial number, draw), so that a resumed study proposes what the uninterrupted one would have.
"""

import hashlib
import random
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from nas.architecture import Architecture
from nas.results import Objective
from nas.search.store import directions
from nas.space import Space

MODEL_DRAWS = 5
"""Draws of the sampler itself before uniform ones: TPE has proposed 50 duplicates in a row."""
RANDOM_DRAWS = 200
"""Uniform draws before the space is walked through for what is left."""


@dataclass(frozen=True)
class Proposal:
    """An architecture that the study does not hold yet, with all that its row needs."""

    key: str
    architecture: Architecture
    learning_rate: float | None
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    system: Mapping[str, Any]
    redraws: int
    """Duplicates drawn before it."""
    mirror_id: int


def seed_of(*parts: int | str) -> int:
    """A seed from the study's seed, the trial's number and whatever tells two draws apart."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def key_of(architecture_id: str, learning_rate: float | None) -> str:
    """What makes two trials the same: the architecture, and the learning rate where that is searched."""
    return architecture_id if learning_rate is None else f"{architecture_id}@{learning_rate!r}"


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(multivariate=True, group=True, seed=seed),
    "nsga2": lambda seed: NSGAIISampler(population_size=20, seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}
BEST = "tpe"


class Proposer:
    """Proposes architectures from what the rows tell. Not thread-safe: one thread owns it."""

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        sampler: str,
        seed: int,
        learning_rates: Sequence[float] = (),
    ) -> None:
        self.space, self.seed = space, seed
        self.learning_rates = list(learning_rates) if len(learning_rates) > 1 else []
        self._make = SAMPLERS[BEST if sampler == "auto" else sampler]
        storage = optuna.storages.InMemoryStorage()
        self._mirror = optuna.create_study(directions=directions(objectives), storage=storage)
        self._ids: dict[int, int] = {}

    def propose(self, number: int, taken: Set[str]) -> Proposal | None:
        """The next architecture for the trial of that number; None when every one is in `taken`."""
        for draw in range(MODEL_DRAWS + RANDOM_DRAWS):
            seed = seed_of(self.seed, number, draw)
            proposal = self._draw(self._make if draw < MODEL_DRAWS else SAMPLERS["random"], seed, draw)
            if proposal.key not in taken:
                return proposal
            self._mirror.tell(self._trial(proposal.mirror_id).number, state=TrialState.FAIL)
        left = [params for params, key in self._walk() if key not in taken]
        if not left:
            return None
        return self.fixed(random.Random(seed_of(self.seed, number, "left")).choice(left))

    def fixed(self, params: Mapping[str, Any]) -> Proposal:
        """The proposal with just these parameters (a baseline of the space, say)."""
        self._mirror.enqueue_trial(dict(params))
        return self._draw(SAMPLERS["random"], self.seed, 0)

    def adopt(self, number: int, proposal: Proposal) -> None:
        """The proposal has become the row of that number."""
        self._ids[number] = proposal.mirror_id

    def absorb(self, row: FrozenTrial) -> None:
        """Take in a row as it now stands in the database."""
        state = row.state if row.state.is_finished() else TrialState.RUNNING
        if row.number not in self._ids:
            copy = optuna.trial.create_trial(
                state=state,
                values=row.values,
                params=row.params,
                distributions=row.distributions,
                system_attrs=dict(row.system_attrs),
            )
            self._ids[row.number] = self._mirror._storage.create_new_trial(self._mirror._study_id, copy)
        elif state.is_finished():
            self.finished(row.number, state, row.values, row.constraints)

    def finished(
        self, number: int, state: TrialState, values: Sequence[float] | None, violations: Mapping[str, float]
    ) -> None:
        """A row has got its result."""
        mirror_id = self._ids[number]
        for name, violation in violations.items():
            self._mirror._storage.set_trial_system_attr(mirror_id, f"constraints:{name}", violation)
        self._mirror._storage.set_trial_state_values(mirror_id, state, values)

    def _draw(self, make: Callable[[int], BaseSampler], seed: int, redraws: int) -> Proposal:
        with warnings.catch_warnings():
            # `group` and `multivariate` are marked experimental by Optuna; both have kept their meaning since 2.x.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._mirror.sampler = make(seed)
            trial = self._mirror.ask()
            architecture = self.space.suggest(trial)
        rate = trial.suggest_categorical("learning_rate", self.learning_rates) if self.learning_rates else None
        frozen = self._trial(trial._trial_id)
        # Generations of a genetic sampler must survive a resume; TPE's own notes are of the moment.
        system = {k: v for k, v in frozen.system_attrs.items() if k.endswith(":generation")}
        return Proposal(
            key=key_of(architecture.id, rate),
            architecture=architecture,
            learning_rate=rate,
            params=frozen.params,
            distributions=frozen.distributions,
            system=system,
            redraws=redraws,
            mirror_id=trial._trial_id,
        )

    def _trial(self, mirror_id: int) -> FrozenTrial:
        return self._mirror._storage.get_trial(mirror_id)

    def _walk(self) -> list[tuple[dict[str, Any], str]]:
        """Every choice of parameters with its key. Only small spaces get here: others never run out of new draws."""
        rates: list[float | None] = list(self.learning_rates) or [None]
        return [
            (params if rate is None else {**params, "learning_rate": rate}, key_of(architecture.id, rate))
            for params, architecture in self.space.walk()
            for rate in rates
        ]
