"""Counts how often trials beat the bound below which they would not be trained, on tabulated benchmarks.

The pareto sampler proposes, as it does for a search: from the fifth trial on by its model, with cheap columns measured
once a trial is proposed. Every trial is trained, so every bound has a result to compare. A bound is *wrong* when one
training is better. A trial *would be skipped* when an earlier one is nowhere worse than its bound and somewhere better.

The bound is held against that of earlier versions: 2.33 standard deviations below the expected value, noise left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import optuna

from nas.bench.pool import side_by_side
from nas.bench.tables import Table
from nas.formatting import percent
from nas.report.effort import PROMISE
from nas.running.architecture_sampler import STARTUP_TRIALS
from nas.samplers.pareto_sampler import ParetoSampler
from nas.study.store import directions, quietly

EARLIER_SDS = 2.33
MOST_ASKS = 20
"""A run ends after so many proposals for each training, where the table lacks most of them."""


@dataclass(frozen=True)
class Judged:
    """Holds what became of one bound."""

    wrong: bool
    skips: bool


@dataclass(frozen=True)
class Tally:
    """Counts bounds."""

    bounds: int
    wrong: int
    skipped: int
    skipped_wrong: int

    @classmethod
    def of(cls, judged: Sequence[Judged]) -> "Tally":
        skipped = [each for each in judged if each.skips]
        return cls(len(judged), sum(each.wrong for each in judged), len(skipped), sum(each.wrong for each in skipped))

    def __str__(self) -> str:
        wrong = f"{self.wrong} of {self.bounds:,} bounds wrong ({percent(self.wrong / max(self.bounds, 1), 2)})"
        return f"{wrong}, {self.skipped} would be skipped, {self.skipped_wrong} of these wrongly"


def replay(table: Table, seed: int, trials: int) -> tuple[list[Judged], list[Judged]]:
    """Runs one search of the table, and returns what became of the earlier bounds and of today's."""
    scales = [bool(o.goal == "min" and (table.means_CM[:, m] > 0).all()) for m, o in enumerate(table.objectives)]
    sampler = ParetoSampler(table.suggest, seed=seed, logarithmic=scales, n_startup_trials=STARTUP_TRIALS)
    with quietly():
        study = optuna.create_study(directions=directions(table.objectives), sampler=sampler)
    signs = np.array([1.0 if goal == "min" else -1.0 for goal in table.goals])
    trained, earlier, today = list[Any](), list[Judged](), list[Judged]()
    while len(trained) < trials and len(study.trials) < MOST_ASKS * trials:
        trial = study.ask()
        configuration = table.find(table.suggest(trial))
        if configuration is None:
            trial.set_constraint("in_table", 1.0)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            continue
        values = table.train(configuration, seed, 0).values
        known = [value if o.cheap else None for value, o in zip(values, table.objectives, strict=True)]
        frozen = study.trials[-1]
        for found, bound in (
            (earlier, sampler.expected_below(study, frozen, known, EARLIER_SDS)),
            (today, sampler.optimistic(study, frozen, known)),
        ):
            if bound is not None:
                exact = [b if k is None else k for b, k in zip(bound, known, strict=True)]
                found.append(_judged(signs * exact, signs * values, trained))
        study.tell(trial, values)
        trained.append(signs * values)
    return earlier, today


def _judged(bound_M: Any, values_M: Any, trained: Sequence[Any]) -> Judged:
    wrong = bool((values_M < bound_M).any())
    skips = any((other_M <= bound_M).all() and (other_M < bound_M).any() for other_M in trained)
    return Judged(wrong, skips)


def compare(tables: Sequence[Table], seeds: int, trials: int, jobs: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Replays the tables with seeds 0, 1, ... in `jobs` processes. The result does not depend on their number."""
    every: dict[str, tuple[list[Judged], list[Judged]]] = {}
    for table in tables:
        runs = dict(side_by_side(partial(_replay, table=table, trials=trials), range(seeds), jobs))
        ordered = [runs[seed] for seed in range(seeds)]
        every[table.name] = [j for run in ordered for j in run[0]], [j for run in ordered for j in run[1]]
        tell(f"{table.name}: {Tally.of(every[table.name][1])}")
    total = [j for run in every.values() for j in run[0]], [j for run in every.values() for j in run[1]]
    return {
        "promise": PROMISE,
        "seeds": seeds,
        "trials": trials,
        "tables": {name: _told(found) for name, found in every.items()},
        "all": _told(total),
    }


def _replay(seed: int, *, table: Table, trials: int) -> tuple[list[Judged], list[Judged]]:
    return replay(table, seed, trials)


def _told(found: tuple[list[Judged], list[Judged]]) -> dict[str, Any]:
    earlier, today = (asdict(Tally.of(judged)) for judged in found)
    return {"earlier": earlier, "today": today}
