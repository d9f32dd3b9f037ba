"""Opens the job that ends a search: one driver measures the front again, cleans the folders and writes the report.

It is a job under a lease like any other, so another driver takes it over when its own one dies, and a late writer is
refused. It is opened again whenever trials were trained since, and by a launch that began after it was done.
"""

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
    trained = sql.select(STUDIES.c.trained).where(STUDIES.c.study_id == jobs.study_id).scalar_subquery()
    started = sql.select(DRIVERS.c.started).where(DRIVERS.c.driver == leases.driver.id).scalar_subquery()

    def body(connection: sql.Connection) -> None:
        for job in jobs.held(connection, JOBS.c.key == KEY, JOBS.c.phase.in_(FINISHED)):
            now = connection.execute(sql.select(trained.label("trained"), started.label("started"))).one()
            closed = leases.attributes(connection, job.job_id).get(CLOSED, 0.0)
            if job.step != now.trained or closed < now.started:
                jobs.change(connection, {job.job_id: {"phase": Phase.WAITING}})

    jobs.database.write(body)


def begin_closing(leases: Leases, lease: Lease, trained: int) -> None:
    """Stores for how many trained trials the job is done."""
    leases.rung(lease, trained, None, {})


def end_closing(leases: Leases, lease: Lease, moment: float) -> None:
    """Ends the job at that moment (Unix seconds). Raises Lost."""
    leases.tell(lease, TrialState.COMPLETE, None, trained=False, attributes={CLOSED: moment})
