"""Compares which sampler finds the front of a tabulated benchmark with the fewest trainings.

Every sampler gets the same space (the product of each parameter's values), the same goals, and the same noise: the k-th
training of a configuration gives the same row to all samplers that run with one seed. The result is the share of the
true front's hypervolume that the configurations trained so far dominate, by their true means, after 25, 50, 100, ...
trainings.

A repeated training costs a training too. A configuration that the table lacks costs none: the sampler is told that it
is infeasible (an Optuna constraint above 0, then PRUNED), and asks continue up to ASKS_PER_TRAINING times the
trainings. Optuna's GPSampler learns from COMPLETE trials alone, and can spend all of these asks on one gap. `pareto`
gets the columns marked `cheap` as functions, with NaN for what the table lacks. So on a table with gaps it knows the
gaps beforehand where `cheap` is used, and the others do not.

On a sparse table, which lacks most combinations (nas.bench.sparse_rows), `pareto` and `random` propose rows. What any
other sampler proposes and the table lacks counts as the nearest row that is not trained yet, which is counted.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from statistics import mean, stdev
from typing import Any

import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler
from optuna.trial import TrialState

from nas.bench.pool import side_by_side
from nas.bench.sparse_rows import RandomRows, SparseRows, is_sparse
from nas.bench.tables import Table
from nas.errors import UsageError, nearest
from nas.formatting import fixed
from nas.running.budget import ASKS_PER_TRIAL as ASKS_PER_TRAINING
from nas.running.proposer import grouped_tpe
from nas.study.store import directions, quietly

FIRST_POINT = 25
NSGA2_POPULATION = 20
"""Optuna's 50 are two generations in 100 trainings: .896 of NAS-Bench-201's front (cifar10, 20 seeds), not .928."""


def _pareto(table: Table, seed: int) -> BaseSampler:
    from nas.samplers.pareto_sampler import ParetoSampler

    cheap = {i: partial(table.known, objective=i) for i, o in enumerate(table.objectives) if o.cheap}
    space = SparseRows(table).space if is_sparse(table) else table.suggest
    return ParetoSampler(space, cheap=cheap, seed=seed)


def _random(table: Table, seed: int) -> BaseSampler:
    return RandomRows(SparseRows(table), seed) if is_sparse(table) else RandomSampler(seed=seed)


SAMPLERS: dict[str, Callable[[Table, int], BaseSampler]] = {
    "pareto": _pareto,
    "gp": lambda table, seed: GPSampler(seed=seed, deterministic_objective=False),
    "tpe": lambda table, seed: grouped_tpe(seed),
    "nsga2": lambda table, seed: NSGAIISampler(population_size=NSGA2_POPULATION, seed=seed),
    "random": _random,
}


@dataclass(frozen=True)
class Run:
    """Holds the result of one sampler with one seed: hypervolume share and cost so far at each of `points`."""

    sampler: str
    seed: int
    ratios: tuple[float, ...]
    costs: tuple[float, ...]
    trained: int
    """Less than asked for where too many proposals were infeasible; later points then repeat the last figures."""
    distinct: int
    """The number of configurations trained at least once."""
    infeasible: int
    """The number of proposals that the table lacks, and that were told so."""
    substituted: int = 0
    """The number of proposals that the table lacks, and that counted as the nearest row: on a sparse table alone."""


def parse_samplers(text: str) -> tuple[str, ...]:
    """Parses "tpe, random" into names, each once. Raises UsageError for an unknown one."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in SAMPLERS:
            raise UsageError(f"unknown sampler '{name}'", where="--samplers", help=nearest(name, SAMPLERS))
    return names


def points(trials: int) -> tuple[int, ...]:
    """Returns the numbers of trainings at which the front is judged: 25, 50, 100, ... and the last."""
    doubled = [FIRST_POINT << i for i in range(trials.bit_length())]
    return (*(point for point in doubled if point < trials), trials)


def replay(table: Table, sampler: str, seed: int, trials: int) -> Run:
    """Runs one sampler on the table until so many trainings, or ASKS_PER_TRAINING times as many asks."""
    with quietly():
        study = optuna.create_study(directions=directions(table.objectives), sampler=SAMPLERS[sampler](table, seed))
    rows = SparseRows(table) if is_sparse(table) else None
    times, infeasible, substituted, cost = Counter[int](), 0, 0, 0.0
    judged, at = points(trials), dict[int, tuple[float, float]]()
    while times.total() < trials and times.total() + infeasible < ASKS_PER_TRAINING * trials:
        trial = study.ask()
        params = table.suggest(trial)
        configuration = table.find(params)
        if configuration is None and rows is not None:
            configuration = rows.nearest(params, times)
            substituted += 1
        if configuration is None:
            infeasible += 1
            trial.set_constraint("in_table", 1.0)
            study.tell(trial, state=TrialState.PRUNED)
            continue
        training = table.train(configuration, seed, times[configuration])
        study.tell(trial, training.values)
        times[configuration] += 1
        cost += training.cost
        if times.total() in judged:
            at[times.total()] = table.ratio(times), cost
    last = table.ratio(times), cost
    ratios, costs = zip(*(at.get(point, last) for point in judged), strict=True)
    return Run(sampler, seed, ratios, costs, times.total(), len(times), infeasible, substituted)


def compare(
    table: Table, samplers: Sequence[str], seeds: int, trials: int, jobs: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Replays every sampler with seeds 0, 1, ... in `jobs` processes; the result does not depend on their number.

    `tell` is called as each run ends. The result is plain data; docs/commands.md names its keys.
    """
    wanted = [(sampler, seed) for sampler in samplers for seed in range(seeds)]
    done = _replayed(table, wanted, trials, jobs, tell)
    runs = [done[key] for key in wanted]
    of = {sampler: [run for run in runs if run.sampler == sampler] for sampler in samplers}
    return {
        "table": table.name,
        "configurations": len(table.numbers),
        "space_size": table.space_size,
        "rows": len(table.values_RM),
        "objectives": [{"column": o.metric, "goal": o.goal, "cheap": o.cheap} for o in table.objectives],
        "cost": table.cost,
        "trials": trials,
        "seeds": seeds,
        "samplers": {sampler: _at_points(table, of[sampler], trials) for sampler in samplers},
        "distinct": {sampler: mean(run.distinct for run in of[sampler]) for sampler in samplers},
        "infeasible": {sampler: mean(run.infeasible for run in of[sampler]) for sampler in samplers},
        "substituted": {sampler: mean(run.substituted for run in of[sampler]) for sampler in samplers},
        "sparse": is_sparse(table),
        "cut_short": {sampler: sum(run.trained < trials for run in of[sampler]) for sampler in samplers},
        "runs": [asdict(run) for run in runs],
        "optuna": optuna.__version__,
    }


def _at_points(table: Table, runs: Sequence[Run], trials: int) -> dict[str, dict[str, Any]]:
    found = dict[str, dict[str, Any]]()
    for i, point in enumerate(points(trials)):
        found[str(point)] = dict(_spread([run.ratios[i] for run in runs]))
        if table.cost:
            found[str(point)]["cost"] = _spread([run.costs[i] for run in runs])
    return found


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Returns mean, std and min; `std` is the sample's (n - 1), and 0 for a single value."""
    return {"mean": mean(values), "std": stdev(values) if len(values) > 1 else 0.0, "min": min(values)}


def _replayed(
    table: Table, wanted: Sequence[tuple[str, int]], trials: int, jobs: int, tell: Callable[[str], None]
) -> dict[tuple[str, int], Run]:
    """Makes all runs. Even a single one has its own process, which computes on one thread."""
    done = dict[tuple[str, int], Run]()
    with _one_thread():
        for key, run in side_by_side(partial(_replay, table=table, trials=trials), wanted, jobs):
            done[key] = run
            share = f"{fixed(run.ratios[-1], 4)} at {run.trained}"
            tell(f"[{len(done)}/{len(wanted)}] {run.sampler} seed {run.seed}: {share}")
    return done


def _replay(key: tuple[str, int], *, table: Table, trials: int) -> Run:
    return replay(table, *key, trials)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Makes processes started meanwhile compute on one thread each.

    Small tensors gain nothing from more threads, and sums would change.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
