"""Runs transactions on a study's database, SQLite or PostgreSQL, and repeats each one until it is answered.

A transaction is a function of a connection. It is repeated as a whole when the database was busy, restarted or hung,
and also when only the answer to its COMMIT was lost. So it must find out by itself whether it was made before.

Writing transactions run at READ COMMITTED, whatever the server's default: after waiting for a lock, a statement has to
see what its holder has committed. SQLite has one writer at a time (BEGIN IMMEDIATE). Reading transactions see one
snapshot.
"""

import logging
import random
import sqlite3
import time
import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import sqlalchemy as sql
from optuna.storages import RDBStorage
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from nas.errors import OutOfReach
from nas.study.database import DAMAGED, NO_ANSWER, SERVER_HELP, reading_storage, writing_storage
from nas.study.database import read_only as opened_read_only
from nas.study.database_place import DRIVER, DatabasePlace, database_place, require_psycopg
from nas.study.watchdog import Watchdog, guard

PATIENCE_SECONDS, FIRST_PATIENCE_SECONDS = 60.0, 0.0
"""A transaction is repeated for so long; the first one only once, since a wrong address is wrong for ever."""
HANG_SECONDS = 25.0
"""A server without an answer for so long hangs: its own limits are shorter (nas.study.database_place)."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 2.0
RETRIED_CLASSES = {"08", "40", "53", "57", "58"}
"""Connections, conflicts between transactions, lack of resources, restarts, and failures of the server's system."""
RETRIED_STATES = {"55P03", "25P03", "25P04", "25006"}
"""A lock that was not free in time, a session that was ended for standing idle, and a server that became a replica."""
RETRIED_BY_SQLITE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}
SQLITE_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000", "foreign_keys=ON")
READS = "nas_reads"

T = TypeVar("T")
log = logging.getLogger("nas")


class Database:
    """Runs transactions on one database. Any thread may use it; a forked process makes its own.

    Raises OutOfReach once `patience` seconds of repeating were in vain. Until a transaction succeeds again, each later
    one is tried only once, so that a search ends soon after its database. `retries` counts what was repeated, by error.
    """

    def __init__(
        self,
        url: str | DatabasePlace | Path,
        *,
        patience: float = PATIENCE_SECONDS,
        hang: float = HANG_SECONDS,
        read_only: bool = False,
    ) -> None:
        """`url` is a checked place, an address as SQLAlchemy takes it, or a SQLite file that is only read.

        `read_only` holds for a server's sessions.

        Raises UsageError for another kind of database, and where the package for PostgreSQL is missing.
        """
        self.patience, self.retries, self._read_only = patience, Counter[str](), read_only
        self._gave_up = False
        self.watchdog = Watchdog(hang)
        self.place = place = _placed(url)
        if isinstance(place, DatabasePlace):
            self.engine = self._postgresql(place, read_only)
            self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ")
        else:
            self.engine = _sqlite(place) if isinstance(place, sql.URL) else _only_read(place)
            self._reading = self.engine.execution_options(**{READS: True})
        weakref.finalize(self, self.engine.dispose)  # commands and notebooks let their studies go unclosed

    def __repr__(self) -> str:
        return f"<Database {self.place}>"

    @property
    def _shown(self) -> str:
        """Returns the address without a password; of a file, its path."""
        return str(self.place.database) if isinstance(self.place, sql.URL) else str(self.place)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a database stays with its driver: workers need none, and its address may hold a password")

    @property
    def server(self) -> DatabasePlace | None:
        """Returns the place on a server; None for a SQLite file."""
        return self.place if isinstance(self.place, DatabasePlace) else None

    def optuna_storage(self) -> RDBStorage:
        """Opens Optuna's own storage over this database; it makes the tables that are missing."""
        if isinstance(self.place, Path):
            return reading_storage(self.place)
        if isinstance(self.place, sql.URL):
            return writing_storage(self.place.render_as_string())
        return self._storage_on(self.place)

    def _storage_on(self, place: DatabasePlace) -> RDBStorage:
        made: list[weakref.ref[Any]] = []

        def connect() -> Any:
            connection = place.connect(self._read_only)
            made.append(weakref.ref(connection))
            return connection

        how = {"creator": connect, "isolation_level": "READ COMMITTED", "pool_pre_ping": True}
        try:
            storage = RDBStorage(f"{DRIVER}://", engine_kwargs=how, skip_table_creation=self._read_only)
        except BaseException:  # Optuna leaves its connections open where the tables are of another version
            for connection in filter(None, (each() for each in made)):
                connection.close()
            raise
        guard(storage.engine, self.watchdog.seconds)
        weakref.finalize(storage, storage.engine.dispose)  # a study that is read after its search connects once more
        return storage

    def check(self) -> None:
        """Raises OutOfReach at once where the database does not answer."""
        self._repeat(self.engine, lambda connection: connection.execute(sql.select(1)), FIRST_PATIENCE_SECONDS)

    def write(self, body: Callable[[sql.Connection], T]) -> T:
        """Runs a transaction that writes, and returns what it returns."""
        return self._repeat(self.engine, body, self.patience)

    def read(self, body: Callable[[sql.Connection], T]) -> T:
        """Runs a transaction that only reads, all of it in one snapshot."""
        return self._repeat(self._reading, body, self.patience)

    def close(self) -> None:
        """Closes every connection that no thread uses."""
        self.engine.dispose()

    def _repeat(self, engine: sql.Engine, body: Callable[[sql.Connection], T], patience: float) -> T:
        last, pause = time.monotonic() + (0 if self._gave_up else patience), FIRST_PAUSE_SECONDS
        while True:
            try:
                with self._watching(), engine.begin() as connection:
                    result = body(connection)
                self._gave_up = False
                return result
            except SQLAlchemyError as error:
                self.retries[_name(error)] += 1
                if not retryable(error) or time.monotonic() + pause > last:
                    self._gave_up = self._gave_up or patience > 0
                    raise self._out_of_reach(error) from error
                log.debug("the database did not answer (%s); again", _name(error))
            time.sleep(pause * random.uniform(0.5, 1.5))  # drivers that failed together do not come back together
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _watching(self) -> AbstractContextManager[None]:
        return nullcontext() if self.engine.dialect.name == "sqlite" else self.watchdog.watching()

    def _postgresql(self, place: DatabasePlace, read_only: bool) -> sql.Engine:
        require_psycopg()
        watchdog = self.watchdog
        engine = sql.create_engine(
            f"{DRIVER}://",
            creator=partial(place.connect, read_only),
            isolation_level="READ COMMITTED",
            hide_parameters=True,
        )

        # A new connection asks the server's version before SQLAlchemy hands it out, so both events are needed.
        @sql.event.listens_for(engine, "connect", insert=True)
        def _connected(connection: Any, _: Any) -> None:
            watchdog.attach(connection)

        @sql.event.listens_for(engine, "checkout")
        def _taken(connection: Any, _: Any, __: Any) -> None:
            watchdog.attach(connection)

        return engine

    def _out_of_reach(self, error: SQLAlchemyError) -> OutOfReach:
        origin = getattr(error, "orig", None) or error
        said = (str(origin).strip().splitlines() or [type(origin).__name__])[0]
        for secret in self.place.secrets if isinstance(self.place, DatabasePlace) else ():
            said = said.replace(secret, "***")
        damaged = getattr(origin, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        on_disk = self.engine.dialect.name == "sqlite"
        help = DAMAGED if damaged else NO_ANSWER if on_disk else SERVER_HELP
        return OutOfReach(f"the study's database does not answer: {said}", where=self._shown, help=help)


def retryable(error: SQLAlchemyError) -> bool:
    """Tells whether the same transaction may succeed later."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, sql.exc.TimeoutError)  # no connection was free in time
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in RETRIED_BY_SQLITE
    state = getattr(error.orig, "sqlstate", None)
    if state:
        return state[:2] in RETRIED_CLASSES or state in RETRIED_STATES
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


def _name(error: SQLAlchemyError) -> str:
    origin = getattr(error, "orig", None) or error
    state = getattr(origin, "sqlstate", None) or getattr(origin, "sqlite_errorname", None)
    return f"{type(origin).__name__} {state}" if state else type(origin).__name__


def _placed(url: str | DatabasePlace | Path) -> sql.URL | DatabasePlace | Path:
    """Returns the address of a SQLite file, its path, or a place on a server."""
    if not isinstance(url, str):
        return url
    try:
        parsed = sql.make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return parsed
    except (SQLAlchemyError, ValueError):  # ValueError: a port that is no number
        pass
    place = database_place(url)
    assert place is not None
    return place


def _only_read(path: Path) -> sql.Engine:
    """Returns an engine that opens the file for each transaction, as a driver may come and go meanwhile."""
    engine = sql.create_engine(
        "sqlite://", creator=lambda: opened_read_only(path), poolclass=NullPool, hide_parameters=True
    )

    @sql.event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None

    @sql.event.listens_for(engine, "begin")
    def _begin(connection: sql.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _sqlite(url: sql.URL) -> sql.Engine:
    engine = sql.create_engine(url, connect_args={"check_same_thread": False}, hide_parameters=True)

    @sql.event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own, so that ours are IMMEDIATE
        for pragma in SQLITE_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @sql.event.listens_for(engine, "begin")
    def _begin(connection: sql.Connection) -> None:
        reads = connection.get_execution_options().get(READS)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine
