"""A study in a database of its own, on SQLite or PostgreSQL, and drivers that share it."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import optuna
import sqlalchemy as sql
from optuna.distributions import IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from nas.results import Objective
from nas.study.drivers import Drivers
from nas.study.job_answers import Lease, NewJob
from nas.study.job_preparation import prepare
from nas.study.job_tables import JOBS, job_key
from nas.study.leases import Leases
from nas.study.study_jobs import StudyJobs
from nas.study.transactions import Database

NAME = "study"
OBJECTIVES = (Objective("val_loss", "min"), Objective("params", "min"))
FOREVER = 1e6


class SharedStudy:
    """The study at this address. What it opens is closed with it; its drivers share one database, since they may."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened: list[Database] = []

    def database(self, url: str = "") -> Database:
        """A database of its own."""
        self._opened.append(Database(url or self.url))
        return self._opened[-1]

    @cached_property
    def jobs(self) -> StudyJobs:
        return StudyJobs.of_name(self.database(), NAME)

    def prepared(self, budget: int = 100) -> StudyJobs:
        prepare(self.jobs, budget)
        return self.jobs

    def driver(self, budget: int = 100, grace: float = FOREVER, url: str = "") -> Leases:
        """Another driver of the study; with a database of its own, where that has an address of its own."""
        jobs = StudyJobs.of_name(self.database(url), NAME) if url else self.jobs
        prepare(jobs, budget)
        return Leases(jobs, Drivers(jobs, grace).register("cpu"), grace)

    @cached_property
    def storage(self) -> RDBStorage:
        return RDBStorage(self.url, skip_table_creation=True)

    def loaded(self) -> optuna.Study:
        """The study as Optuna reads it."""
        return optuna.load_study(study_name=NAME, storage=self.storage)

    def trials(self) -> list[FrozenTrial]:
        """Its trials by number; that Optuna reads the same is told by test_store."""
        return self.jobs.database.read(lambda connection: self.jobs.rows.read_where(connection, sql.true()))

    def table(self, table: sql.Table = JOBS) -> list[Mapping[str, Any]]:
        """All rows of one of the side tables, by their first column."""
        wanted = sql.select(table).order_by(next(iter(table.c)))
        return self.jobs.database.read(lambda c: [dict(row) for row in c.execute(wanted).mappings()])

    def write(self, change: sql.Update | sql.Delete) -> None:
        """Changes a table as no driver does."""
        self.jobs.database.write(lambda connection: connection.execute(change))

    def close(self) -> None:
        for opened in self._opened:
            opened.close()
        if "storage" in vars(self):
            self.storage.remove_session()
            self.storage.engine.dispose()


def new(name: str, **further: Any) -> NewJob:
    """A trial that the study does not have yet."""
    x = sum(map(ord, name))
    attributes = {"architecture_id": name, "architecture": {"x": x}, "proposed": 5.0}
    return NewJob(
        job_key(name, None), attributes, params={"x": x}, distributions={"x": IntDistribution(0, 10**6)}, **further
    )


def begun(driver: Leases, name: str, **options: Any) -> Lease:
    """A new trial that runs."""
    found = driver.acquire(f"nonce of {name}", new(name), **options)
    assert isinstance(found, Lease), found
    return found


def told(driver: Leases, lease: Lease, state: TrialState = TrialState.COMPLETE, **options: Any) -> bool:
    complete = state is TrialState.COMPLETE
    return driver.tell(lease, state, [2.0, 3.0] if complete else None, trained=complete, **options)
