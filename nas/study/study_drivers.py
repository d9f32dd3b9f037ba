"""Tells which drivers search a stored study: by their rows in its database, or by the lock of a version without such.

It reads only. Ages of heartbeats are computed by the database's clock.
"""

from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from nas.study.database import out_of_reach
from nas.study.drivers import GRACE_SECONDS, DriverStatus, drivers_of
from nas.study.lock import is_running as is_locked
from nas.study.stored_study import StoredStudy


def current_drivers(study: StoredStudy, grace: float = GRACE_SECONDS) -> list[DriverStatus]:
    """Returns the drivers that have not ended, and dead ones whose trials nobody has taken over yet.

    Raises Conflict where a row is damaged, and OutOfReach.
    """
    if (tables := study.store.tables) is None:
        return []
    try:
        with tables.engine.connect() as connection:
            found = drivers_of(connection, tables.study_id, grace)
    except SQLAlchemyError as error:
        raise out_of_reach(error) from error
    return [driver for driver in found if not driver.ended or driver.running]


def is_running(study: StoredStudy) -> bool:
    """Tells whether any driver searches the study now, on any machine."""
    return any(driver.lives for driver in current_drivers(study)) or (study.place is None and is_locked(study.folder))


def as_data(driver: DriverStatus) -> dict[str, Any]:
    """Returns a driver as `nas status --json` prints it."""
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
        "trials": list(driver.running),
    }
