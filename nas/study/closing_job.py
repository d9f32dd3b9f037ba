"""Opens the job that ends a search: one driver measures the front again, cleans the folders and writes the report.

It is a job under a lease like any other, so another driver takes it over when its own one dies, and a late writer is
refused. It is opened again whenever trials were trained or confirmed since, and by a launch that began after it was
done.
"""

from typing import Any

import sqlalchemy as sql
from optuna.trial import TrialState

from nas.study.job_answers import Lease, NewJob
from nas.study.job_tables import DRIVERS, FINISHED, JOBS, STUDIES, Kind, Phase
from nas.study.leases import Leases

KEY = "closing"
CLOSED = "closed"
"""The attribute that holds when the job was done, in Unix seconds."""
CLOSINGS = (Kind.CLOSING,)


def open_closing(leases: Leases) -> None:
    """Makes the job wait for a driver, unless it runs, or was done since this driver began."""
    if leases.enqueue(NewJob(KEY, {}, kind=Kind.CLOSING))[1]:
        return
    jobs = leases.jobs
    started = sql.select(DRIVERS.c.started).where(DRIVERS.c.driver == leases.driver.id).scalar_subquery()

    def body(connection: sql.Connection) -> None:
        for job in jobs.held(connection, JOBS.c.key == KEY, JOBS.c.phase.in_(FINISHED)):
            now = connection.execute(sql.select(_results(leases).label("results"), started.label("started"))).one()
            closed = leases.attributes(connection, job.job_id).get(CLOSED, 0.0)
            if job.step != now.results or closed < now.started:
                jobs.change(connection, {job.job_id: {"phase": Phase.WAITING}})

    jobs.database.write(body)


def begin_closing(leases: Leases, lease: Lease) -> None:
    """Stores for how many results the job is done."""
    results = leases.jobs.database.read(lambda c: c.execute(sql.select(_results(leases))).scalar_one())
    leases.rung(lease, int(results), None, {})


def end_closing(leases: Leases, lease: Lease, moment: float) -> None:
    """Ends the job at that moment (Unix seconds). Raises Lost."""
    leases.tell(lease, TrialState.COMPLETE, None, trained=False, attributes={CLOSED: moment})


def _results(leases: Leases) -> sql.ColumnElement[Any]:
    """Counts the trained trials, and what has been done to confirm them."""
    study_id = leases.jobs.study_id
    trained = sql.select(STUDIES.c.trained).where(STUDIES.c.study_id == study_id).scalar_subquery()
    done = (JOBS.c.study_id == study_id, JOBS.c.kind == Kind.CONFIRMATION, JOBS.c.phase.in_(FINISHED))
    return trained + sql.select(sql.func.count()).where(*done).scalar_subquery()
