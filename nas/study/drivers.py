"""Registers the drivers of a study: who they are, whether they live, and whether they are asked to stop.

A driver lives while its heartbeat is younger than the grace period, by the database's clock. One that has left, or
whose process is known to be gone, is dead at once. `ordinal` is the smallest number that no living driver has; it tells
apart the random draws of drivers that search together.
"""

import logging
import os
import platform
import threading
import time
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import Self
from uuid import uuid4

import sqlalchemy as sql

from nas.errors import Conflict, NasError
from nas.study import checked, processes, study_rows
from nas.study.database_time import Moment
from nas.study.job_tables import DRIVERS, JOBS, LONG_NAME, Phase
from nas.study.study_jobs import StudyJobs

BEAT_SECONDS, GRACE_SECONDS = 5.0, 60.0
"""A driver's heartbeat is written so often, and it counts as dead when the last one is older than the grace period."""
CLOSING_SECONDS = 5.0
CONFIRMING = "confirming:"
"""The attributes of the study that name the drivers which confirm it begin so."""
log = logging.getLogger("nas")


class StopRequest(IntEnum):
    """Says what a driver is asked to do: to go on, to finish what runs, or to save it and stop now."""

    GO = 0
    FINISH = 1
    NOW = 2


@dataclass(frozen=True)
class Driver:
    """Identifies a registered driver."""

    id: str
    ordinal: int
    hardware: str
    label: str
    """HOST:PID, which trials store as their `owner`."""


@dataclass(frozen=True)
class DriverStatus:
    """Tells how a driver stands: what `nas status` shows."""

    id: str
    ordinal: int
    host: str
    pid: int
    hardware: str
    started: float
    heartbeat_age: float
    """Seconds since the last heartbeat."""
    stop: StopRequest
    ended: bool
    lives: bool
    running: tuple[int, ...]
    """The numbers of the trials that it runs."""


def dead(grace: float) -> sql.ColumnElement[bool]:
    """Returns the condition that a driver is dead."""
    return sql.or_(DRIVERS.c.ended.is_not(None), DRIVERS.c.heartbeat < Moment() - grace)


class Drivers:
    """Keeps the drivers of one study. `grace` is the age in seconds at which a heartbeat says that a driver is dead."""

    def __init__(self, jobs: StudyJobs, grace: float = GRACE_SECONDS) -> None:
        self.jobs, self.grace = jobs, grace
        self._ours = DRIVERS.c.study_id == jobs.study_id

    def register(self, hardware: str = "", *, confirms: bool = False) -> Driver:
        """Registers this process as a driver. Drivers whose processes are gone from this machine count as ended.

        One that `confirms` searches nothing, and an attribute of the study says so.
        """
        driver = uuid4().hex
        return self.jobs.database.write(lambda connection: self._register(connection, driver, hardware, confirms))

    def beat(self, driver: Driver) -> StopRequest:
        """Writes a heartbeat and returns what the driver is asked to do. Raises Conflict when the study is deleted."""
        change = DRIVERS.update().where(DRIVERS.c.driver == driver.id).values(heartbeat=Moment())
        stop = self.jobs.database.write(lambda c: c.execute(change.returning(DRIVERS.c.stop)).scalar())
        return self.jobs.deleted() if stop is None else _request(stop)

    def request_stop(self, request: StopRequest, driver: str | None = None) -> list[str]:
        """Asks one driver, or every living one, to stop. Returns the ids of those asked.

        They learn it with their next heartbeat. A request never takes back a stronger one.
        """
        which = self._alive() if driver is None else DRIVERS.c.driver == driver
        stronger = sql.case((DRIVERS.c.stop > int(request), DRIVERS.c.stop), else_=int(request))
        change = DRIVERS.update().where(self._ours, DRIVERS.c.ended.is_(None), which).values(stop=stronger)
        asked = self.jobs.database.write(lambda c: c.execute(change.returning(DRIVERS.c.driver)).scalars().all())
        return sorted(asked)

    def all(self) -> list[DriverStatus]:
        """Returns every driver that the study ever had, the first one first."""
        return self.jobs.database.read(lambda connection: _all(connection, self.jobs.study_id, self.grace))

    def _alive(self) -> sql.ColumnElement[bool]:
        return sql.not_(dead(self.grace))

    def _register(self, connection: sql.Connection, driver: str, hardware: str, confirms: bool) -> Driver:
        self.jobs.lock(connection)
        label = f"{platform.node()}:{os.getpid()}"
        mine = sql.select(DRIVERS.c.ordinal).where(DRIVERS.c.driver == driver)
        if (known := connection.execute(mine).scalar()) is not None:  # the answer was lost
            return Driver(driver, known, hardware, label)
        self._end_those_gone(connection)
        taken = set(connection.execute(sql.select(DRIVERS.c.ordinal).where(self._ours, self._alive())).scalars())
        ordinal = next(i for i in range(len(taken) + 1) if i not in taken)
        row = {
            "driver": driver,
            "study_id": self.jobs.study_id,
            "ordinal": ordinal,
            "host": platform.node()[: LONG_NAME.length],
            "pid": os.getpid(),
            "process": processes.identity(),
            "hardware": hardware[: LONG_NAME.length],
            "stop": int(StopRequest.GO),
        }
        connection.execute(DRIVERS.insert().values(row | {"started": Moment(), "heartbeat": Moment()}))
        if confirms:
            study_rows.set_attribute(connection, self.jobs.study_id, f"{CONFIRMING}{driver}", True)
        return Driver(driver, ordinal, hardware, label)

    def _end_those_gone(self, connection: sql.Connection) -> None:
        open_ = sql.select(DRIVERS.c.driver, DRIVERS.c.process).where(self._ours, DRIVERS.c.ended.is_(None))
        if gone := [driver for driver, process in connection.execute(open_).all() if processes.is_gone(process)]:
            connection.execute(DRIVERS.update().where(DRIVERS.c.driver.in_(gone)).values(ended=Moment()))


class Heartbeat:
    """Writes a driver's heartbeat in a thread of its own, within a `with` block."""

    def __init__(self, drivers: Drivers, driver: Driver, seconds: float = BEAT_SECONDS) -> None:
        self._drivers, self._driver, self._seconds = drivers, driver, seconds
        self.stop = StopRequest.GO
        """The newest request of others."""
        self._written, self._done = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="nas-heartbeat", daemon=True)

    @property
    def expired(self) -> bool:
        """Tells whether others may take over this driver's jobs by now, as it could write no heartbeat for so long."""
        return time.monotonic() - self._written > self._drivers.grace

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(CLOSING_SECONDS)  # one that waits for a lost server ends with the process

    def _run(self) -> None:
        while not self._done.wait(self._seconds):
            began = time.monotonic()
            try:
                self.stop = max(self.stop, self._drivers.beat(self._driver))
                self._written = began
            except Conflict as error:
                log.warning("%s", error)
                self.stop = StopRequest.NOW
            except NasError as error:
                log.warning("a heartbeat could not be written: %s", error)


def drivers_of(connection: sql.Connection, study_id: int, grace: float = GRACE_SECONDS) -> list[DriverStatus]:
    """Returns every driver that a study ever had, the first one first; none where it has no side tables yet.

    Raises Conflict where a row is damaged.
    """
    if not sql.inspect(connection).has_table(DRIVERS.name):
        return []
    return checked.call(lambda: _all(connection, study_id, grace), DRIVERS.name)


def _all(connection: sql.Connection, study_id: int, grace: float) -> list[DriverStatus]:
    runs = sql.select(JOBS.c.driver, JOBS.c.number).where(
        JOBS.c.study_id == study_id, JOBS.c.phase == Phase.RUNNING, JOBS.c.number.is_not(None)
    )
    wanted = sql.select(DRIVERS, Moment().label("now"), sql.not_(dead(grace)).label("lives"))
    running = connection.execute(runs.order_by(JOBS.c.number)).all()
    rows = connection.execute(
        wanted.where(DRIVERS.c.study_id == study_id).order_by(DRIVERS.c.started, DRIVERS.c.driver)
    )
    return [_status(row, tuple(n for owner, n in running if owner == row["driver"])) for row in rows.mappings()]


def _request(stored: int) -> StopRequest:
    """Returns what is asked; a number beyond those that exist asks for the most."""
    return StopRequest(min(max(stored, StopRequest.GO), StopRequest.NOW))


def _status(row: sql.RowMapping, running: tuple[int, ...]) -> DriverStatus:
    for name in ("started", "heartbeat"):
        if not 0 <= row[name] <= checked.MOST_SECONDS:  # NaN too
            checked.damaged(DRIVERS.name, name, row[name], "a moment in Unix seconds")
    return DriverStatus(
        id=row["driver"],
        ordinal=row["ordinal"],
        host=row["host"],
        pid=row["pid"],
        hardware=row["hardware"],
        started=row["started"],
        heartbeat_age=max(0.0, row["now"] - row["heartbeat"]),
        stop=_request(row["stop"]),
        ended=row["ended"] is not None,
        lives=bool(row["lives"]) and not processes.is_gone(row["process"]),
        running=running,
    )
