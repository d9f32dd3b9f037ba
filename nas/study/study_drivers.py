"""Tells which drivers search a stored study: by their rows in its database, or by the lock of a version without such.

It tells on which hardware they ran a trial, too. Asking drivers to stop is all that it writes. Ages of heartbeats are
computed by the database's clock.
"""

from contextlib import closing
from typing import Any

import sqlalchemy as sql

from nas.errors import UsageError
from nas.study.database import sqlite_url
from nas.study.drivers import CONFIRMING, GRACE_SECONDS, Drivers, DriverStatus, StopRequest, drivers_of
from nas.study.job_tables import JOBS
from nas.study.lock import is_running as is_locked
from nas.study.stored_study import StoredStudy
from nas.study.study_jobs import StudyJobs
from nas.study.transactions import Database

SHORT = 8
"""The characters of a driver's id that people see."""


def current_drivers(study: StoredStudy, grace: float = GRACE_SECONDS) -> list[DriverStatus]:
    """Returns the drivers that have not ended, and dead ones whose trials nobody has taken over yet.

    Raises Conflict where a row is damaged, and OutOfReach.
    """
    if study.store.tables is None:
        return []
    found = study.store.ask(lambda connection: drivers_of(connection, study.store.study_id, grace))
    return [driver for driver in found if not driver.ended or driver.running]


def confirming(study: StoredStudy) -> frozenset[str]:
    """Returns the ids of the drivers, ended ones too, that confirm the study and search nothing."""
    return frozenset(key.removeprefix(CONFIRMING) for key in study.store.attributes() if key.startswith(CONFIRMING))


def is_running(study: StoredStudy) -> bool:
    """Tells whether any driver searches the study now, on any machine."""
    return any(driver.lives for driver in current_drivers(study)) or (study.place is None and is_locked(study.folder))


def hardware_of(study: StoredStudy, number: int) -> str:
    """Returns the hardware of the newest attempt of a trial; empty where no driver of this version has run it."""

    def question(connection: sql.Connection) -> str:
        if not sql.inspect(connection).has_table(JOBS.name):
            return ""
        wanted = sql.select(JOBS.c.hardware).where(JOBS.c.study_id == study.store.study_id, JOBS.c.number == number)
        return str(connection.execute(wanted).scalar() or "")

    return study.store.ask(question)


def ask_to_stop(study: StoredStudy, request: StopRequest, driver: str | None = None) -> list[str]:
    """Asks the living drivers, wherever they run, or the one whose id begins so. Returns the ids of those asked.

    They learn it with their next heartbeat. Raises UsageError where no living driver, or more than one, has such an id.
    """
    living = [each.id for each in current_drivers(study) if each.lives]
    named = [each for each in living if driver is None or each.startswith(driver)]
    if driver is not None and (len(named) != 1 or not driver):
        text = (
            f"no driver '{driver}' searches study '{study.name}'" if not named else f"'{driver}' may be several drivers"
        )
        help = f"they are: {', '.join(each[:SHORT] for each in living)}" if living else "none searches it"
        raise UsageError(text, code="no-such-driver", where="driver", help=help)
    if not named:
        return []
    with closing(Database(study.place or sqlite_url(study.folder))) as database:
        drivers = Drivers(StudyJobs.of_name(database, study.store.name))
        return [each for name in named for each in drivers.request_stop(request, name)]


def as_data(driver: DriverStatus, *, confirms: bool = False) -> dict[str, Any]:
    """Returns a driver as `nas status --json` prints it; `confirms`: it searches nothing, and confirms the study."""
    return {
        "driver": driver.id,
        "ordinal": driver.ordinal,
        "host": driver.host,
        "pid": driver.pid,
        "hardware": driver.hardware,
        "lives": driver.lives,
        "heartbeat_age_seconds": driver.heartbeat_age,
        "started": driver.started,
        "stop": driver.stop.name,
        "confirms": confirms,
        "trials": list(driver.running),
    }
