"""Measures what the calls of a driver cost in a large study, beside bare inserts in the same run, taken in turn.

    python -m tests.study.lease_costs [--rows 10000] [--running 100] [--repeats 20]

It prints medians in milliseconds, for SQLite and for a PostgreSQL of its own that syncs to disk. To be run on an idle
machine.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import sqlalchemy as sql
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from nas.study.drivers import Drivers
from nas.study.job_answers import Lease, NewJob
from nas.study.job_changes import changes
from nas.study.job_preparation import prepare
from nas.study.job_tables import JOBS, Kind, Phase
from nas.study.leases import Leases
from nas.study.store import Store
from nas.study.study_jobs import StudyJobs
from nas.study.transactions import Database
from nas.study.trial_rows import template
from tests.study import postgres
from tests.study.shared_study import NAME, OBJECTIVES

DISTRIBUTIONS = {f"p{i}": FloatDistribution(0.0, 1.0) for i in range(8)}
PARAMS = dict.fromkeys(DISTRIBUTIONS, 0.25)
RUNGS = [{"step": 10, "seconds": 1.0, "metrics": {"val_loss": 2.5}}]


def attributes(name: str) -> dict[str, object]:
    return {"architecture_id": name, "architecture": {"blocks": [name] * 6}, "attempt": 1, "proposed": 5.0}


def job(name: str) -> NewJob:
    return NewJob(name, attributes(name), params=PARAMS, distributions=DISTRIBUTIONS)


def measure(url: str, rows: int, running: int, repeats: int) -> dict[str, list[float]]:
    """The milliseconds of each call, in turn."""
    store = Store.create(url, NAME, OBJECTIVES)
    row = {"params": PARAMS, "distributions": DISTRIBUTIONS, "values": [2.0, 3.0]}
    for first in range(0, rows, 500):
        store.add_rows([create_trial(user_attrs=attributes(f"r{first + i}"), **row) for i in range(500)])
    with closing(Database(url)) as database, closing(store):
        jobs = StudyJobs.of_name(database, NAME)
        prepare(jobs, 10**6)
        leases = Leases(jobs, Drivers(jobs).register())
        for i in range(running):
            leases.acquire(f"n{i}", job(f"running{i}"))
        version, taken = changes(jobs).version, dict[str, list[float]]()
        current = list[Lease]()
        numbers = itertools.count()

        def bare() -> None:
            values = {"study_id": jobs.study_id, "kind": Kind.FORM, "key": f"bare{next(numbers)}", "phase": Phase.OTHER}
            insert = JOBS.insert().values(values | {"attempt": 0, "version": 0, "step": 0})
            database.write(lambda connection: connection.execute(insert))

        bare_trial = template(TrialState.RUNNING, PARAMS, DISTRIBUTIONS, attributes("bare"), {})

        def acquire() -> None:
            found = leases.acquire(f"m{next(numbers)}", job(f"new{next(numbers)}"))
            assert isinstance(found, Lease)
            current.append(found)

        def follow() -> None:
            nonlocal version
            version = changes(jobs, version).version

        calls: dict[str, Callable[[], object]] = {
            "bare insert of a job": bare,
            "bare insert of a trial": lambda: store.add_rows([bare_trial]),
            "acquire": acquire,
            "note": lambda: leases.note(current[-1], {"metrics": {"params": 3.0}}),
            "rung": lambda: leases.rung(current[-1], 10, "rung-10.a1", {"rungs": RUNGS}),
            "changes": follow,
            "tell": lambda: leases.tell(
                current[-1], TrialState.COMPLETE, [2.0, 3.0], trained=True, violations={"params": -1.0}
            ),
            "nothing": lambda: database.write(lambda connection: connection.execute(sql.select(1))),
        }
        for repeat in range(repeats + 3):  # the first ones compile statements and fill caches
            for name, call in calls.items():
                began = time.perf_counter()
                call()
                if repeat >= 3:
                    taken.setdefault(name, []).append(1000 * (time.perf_counter() - began))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in {"rows": 10_000, "running": 100, "repeats": 20}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    sizes = vars(parser.parse_args())
    with tempfile.TemporaryDirectory() as folder:
        found = {"SQLite": measure(f"sqlite:///{Path(folder) / 'study.db'}", **sizes)}
    with postgres.running(fsync=True) as server:
        found["PostgreSQL"] = measure(server.url(), **sizes)
    for kind, calls in found.items():
        for name, times in calls.items():
            print(f"{kind:12}{name:24}{statistics.median(times):8.2f} ms")  # noqa: T201  # a script
        pairs = zip(calls["acquire"], calls["bare insert of a trial"], strict=True)
        ratio = statistics.median(acquired / inserted for acquired, inserted in pairs)
        print(f"{kind:12}{'acquire / bare trial':24}{ratio:8.2f}")  # noqa: T201  # a script


if __name__ == "__main__":
    main()
