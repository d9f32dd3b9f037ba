"""Plans a confirmation: which trainings, measurements and tests are still to be done, from the stored results alone.

The plan depends on nothing but what has ended, so drivers that confirm together agree, and one that was killed goes on
as if it had not been.

1. Every member is trained with the first seeds. Seed k is the same number for all members, so differences between
   members are paired over seeds.
2. Members that cannot be told apart from a neighbour get one more seed at a time (nas.confirm.race), up to the most.
   A member that fails with a seed leaves the race: an architecture that may diverge has lost its place.
3. Meanwhile members are measured in blocks, a minute apart at least, where an objective or a limit is a measured time.
4. At the end those that remain on the front of the means, or still have a chance to be on the front, are tested once:
   every training of theirs.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nas import pareto
from nas.confirm.differences import Layout
from nas.confirm.race import Race
from nas.confirmation import Confirmation, Retraining
from nas.results import Constraint, Objective, TrialResult
from nas.study.stored_confirmations import Confirmed

BLOCKS = 5
APART_SECONDS = 60.0
"""A member is measured in so many blocks, at least so long apart: what changes between two runs on one machine, such as
its clock and its memory's layout, changes within minutes.
"""
LEAST_CHANCE = 0.05
"""A member off the front of the means is tested too where its probability to be on the front is no lower."""


@dataclass(frozen=True)
class Task:
    """Names one thing to do: `does` is training, test or block."""

    does: str
    trial: TrialResult
    again: str
    seed: int = 0
    later: bool = False
    """True for a training beyond the first seeds."""


@dataclass(frozen=True)
class Step:
    """Holds what may be done now, in the order of preference, and how many seconds remain until more may be done.

    There is nothing left to do where both are empty.
    """

    tasks: tuple[Task, ...] = ()
    wait: float | None = None


@dataclass(frozen=True)
class Plan:
    """Plans the confirmation of these members.

    `seeds` gives the k-th seed. `steps` is the length of a training, and `own_steps` that of the search. `hardware` is
    where blocks are measured; `tests` is False for bodies of the user's own, which test nothing. `chances` gives each
    member's probability to be on the front.
    """

    members: tuple[TrialResult, ...]
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    first: int
    most: int
    steps: int
    own_steps: int
    seeds: Callable[[int], int]
    hardware: str
    blocks: int = BLOCKS
    apart: float = APART_SECONDS
    tests: bool = True
    chances: Callable[[Confirmed], Mapping[int, float]] = lambda now: {}

    def step(self, now: Confirmed, moment: float, *, racing: bool = True) -> Step:
        """Returns what to do next, at that moment by the database's clock.

        With `racing` False, the race is over: nobody gets further seeds.
        """
        blocks, wait = self._blocks(now, moment)
        trainings = self._trainings(now, racing)
        if blocks or trainings:
            return Step((*blocks, *trainings))
        if wait is not None:
            return Step((), wait)
        return Step(tuple(self._tests(now)))

    def again(self, does: str, seed: int) -> str:
        """Returns how the job of a seed is named; see nas.study.stored_confirmations."""
        return f"{does}:{seed}" if self.steps == self.own_steps else f"{does}:{seed}:{self.steps}"

    def block(self, index: int) -> str:
        return f"block:{index}@{digest(self.hardware)}"

    @cached_property
    def timed(self) -> bool:
        """Tells whether an objective or a limit is a time that is measured here."""
        judged: list[Objective | Constraint] = [*self.objectives, *self.constraints]
        return any(each.means.cheap and not each.means.exact for each in judged)

    @cached_property
    def race(self) -> Race:
        goals = tuple(objective.goal for objective in self._trained)
        return Race(goals, self.most, min(self.first, self.most))

    @cached_property
    def _trained(self) -> list[Objective]:
        return [objective for objective in self.objectives if not objective.means.cheap]

    def retrainings(self, now: Confirmed, number: int) -> list[Retraining | None]:
        """Returns the member's trainings by k; None for those that have not ended."""
        found = {r.seed: r for r in now.results.get(number, Confirmation(number)).of_steps(self.steps)}
        return [found.get(self.seeds(k)) for k in range(self.most)]

    def failed(self, now: Confirmed) -> set[int]:
        """Returns the members that failed with a seed."""
        return {t.number for t in self.members if any(r and r.failed for r in self.retrainings(now, t.number))}

    def _trainings(self, now: Confirmed, racing: bool) -> list[Task]:
        wanted = [(k, trial) for k in range(self.first) for trial in self.members]
        if racing:
            values = self._values(now)
            wanted += [(len(values[t.number]), t) for t in self.members if t.number in self._more(values)]
        found = {}
        for k, trial in wanted:
            again = self.again("seed", self.seeds(k))
            if (trial.number, again) not in now.ended:
                found[trial.number, k] = Task("training", trial, again, self.seeds(k), later=k >= self.first)
        return list(found.values())

    def _values(self, now: Confirmed) -> dict[int, list[list[float]]]:
        """Returns the members that race, with the trained objectives of their seeds in order, without a gap."""
        gone, values = self.failed(now), dict[int, list[list[float]]]()
        for trial in self.members:
            if trial.number in gone:
                continue
            rows = values[trial.number] = []
            for training in self.retrainings(now, trial.number):
                if training is None:
                    break
                rows.append([training.metrics[objective.metric] for objective in self._trained])
        return values

    def _more(self, values: Mapping[int, Sequence[Sequence[float]]]) -> set[int]:
        wanted = self.race.wanted(values) if values else []
        return {number for number in wanted if len(values[number]) < self.most}

    def _blocks(self, now: Confirmed, moment: float) -> tuple[list[Task], float | None]:
        """Returns the measurements that are due, and else how long the next one is to wait for."""
        due, waits, gone = [], list[float](), self.failed(now)
        for trial in self.members:
            missing = self.missing_blocks(now, trial.number)
            if not missing or trial.number in gone:
                continue
            found = now.results.get(trial.number, Confirmation(trial.number)).on_hardware(self.hardware)
            left = found[-1].began + self.apart - moment if found else 0.0
            if left > 0:
                waits.append(left)
            else:
                due.append(Task("block", trial, self.block(self.blocks - missing)))
        return due, min(waits, default=None)

    def missing_blocks(self, now: Confirmed, number: int) -> int:
        """Counts the measurements of a member that have not ended."""
        if not (self.timed and self.tests):
            return 0
        return sum((number, self.block(k)) not in now.ended for k in range(self.blocks))

    def _tests(self, now: Confirmed) -> Iterable[Task]:
        if not self.tests:
            return
        for trial in self._hopeful(now):
            for training in self.retrainings(now, trial.number):
                if training is None or training.failed:
                    continue
                again = self.again("test", training.seed)
                if (trial.number, again) not in now.ended:
                    yield Task("test", trial, again, training.seed)

    def _hopeful(self, now: Confirmed) -> list[TrialResult]:
        """Returns the members that remain, and the others with a chance to be on the front."""
        remaining, gone, chances = self.remaining(now), self.failed(now), self.chances(now)
        others = [trial for trial in self.members if trial not in remaining and trial.number not in gone]
        return [*remaining, *(trial for trial in others if chances.get(trial.number, 0.0) >= LEAST_CHANCE)]

    def remaining(self, now: Confirmed) -> tuple[TrialResult, ...]:
        """Returns the members on the front of the means, over seeds and blocks, that meet the limits on them."""
        found = []
        for trial, metrics in self._means(now):
            values = [metrics.get(objective.metric) for objective in self.objectives]
            within = all(limit.violation(metrics) <= 0 for limit in self.constraints)
            if within and None not in values:
                found.append((trial, [value for value in values if value is not None]))
        goals = [objective.goal for objective in self.objectives]
        return tuple(found[i][0] for i in pareto.best_first([values for _, values in found], goals))

    def _means(self, now: Confirmed) -> list[tuple[TrialResult, dict[str, float]]]:
        """Returns the members that failed with no seed, with the means of their metrics.

        What is trained is taken over the seeds, as if each member had been trained with every one of them; times over
        the blocks; what is exact, as it was counted.
        """
        members = [trial for trial in self.members if self._values(now).get(trial.number)]
        values = [self._values(now)[trial.number] for trial in members]
        table_OMS = np.full((len(self._trained), len(members), max(map(len, values), default=0)), np.nan)
        for i, rows in enumerate(values):
            table_OMS[:, i, : len(rows)] = np.transpose(rows)
        found = []
        for i, trial in enumerate(members):
            metrics = {**trial.metrics, **self._times(now, trial.number)}
            for objective, table_MS in zip(self._trained, table_OMS, strict=True):
                alone = len(members) < 2
                metrics[objective.metric] = float(table_MS[i].mean() if alone else Layout(table_MS).means_M[i])
            found.append((trial, metrics))
        return found

    def _times(self, now: Confirmed, number: int) -> dict[str, float]:
        """Returns the mean of each time over the blocks."""
        blocks = [b.metrics for b in now.results.get(number, Confirmation(number)).on_hardware(self.hardware)]
        names = set[str]().union(*blocks)
        return {name: sum(b[name] for b in blocks) / len(blocks) for name in names if all(name in b for b in blocks)}


def digest(text: str) -> str:
    """Returns a short name for a long one."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
