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
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn, TypeVar

import sqlalchemy as sql
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from nas.errors import OutOfReach, UsageError
from nas.study.database import DAMAGED, NO_ANSWER
from nas.study.watchdog import Watchdog

PATIENCE_SECONDS, FIRST_PATIENCE_SECONDS = 60.0, 0.0
"""A transaction is repeated for so long; the first one only once, since a wrong address is wrong for ever."""
HANG_SECONDS = 25.0
"""A server without an answer for so long hangs: its own limits on locks and statements are below."""
LOCK_SECONDS, STATEMENT_SECONDS, IDLE_SECONDS, CONNECT_SECONDS = 10, 20, 20, 5
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
SERVER_HELP = "check that the server runs and lets you in; nothing that was told before is lost"

T = TypeVar("T")
log = logging.getLogger("nas")


class Database:
    """Runs transactions on one database. Any thread may use it; a forked process makes its own.

    Raises OutOfReach once `patience` seconds of repeating were in vain. `retries` counts what was repeated, by error.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE_SECONDS, hang: float = HANG_SECONDS) -> None:
        """`url` is an address as SQLAlchemy takes it. Raises UsageError for another kind of database."""
        self.patience, self.retries = patience, Counter[str]()
        self.watchdog = Watchdog(hang)
        parsed = _parsed(url)
        self._secrets = [parsed.password] if parsed.password else []
        self._shown = f"{parsed.get_backend_name()} {parsed.host or ''}{f':{parsed.port}' if parsed.port else ''}"
        self._shown = f"{self._shown.rstrip()} {parsed.database or ''}".rstrip()
        if parsed.get_backend_name() == "sqlite":
            self.engine = _sqlite(parsed)
            self._reading = self.engine.execution_options(**{READS: True})
        else:
            self.engine = self._postgresql(parsed)
            self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ")

    def __repr__(self) -> str:
        return f"<Database {self._shown}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a database stays with its driver: workers need none, and its address may hold a password")

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
        last, pause = time.monotonic() + patience, FIRST_PAUSE_SECONDS
        while True:
            try:
                with self._watching(), engine.begin() as connection:
                    return body(connection)
            except SQLAlchemyError as error:
                self.retries[_name(error)] += 1
                if not retryable(error) or time.monotonic() + pause > last:
                    raise self._out_of_reach(error) from error
                log.debug("the database did not answer (%s); again", _name(error))
            time.sleep(pause * random.uniform(0.5, 1.5))  # drivers that failed together do not come back together
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _watching(self) -> AbstractContextManager[None]:
        return nullcontext() if self.engine.dialect.name == "sqlite" else self.watchdog.watching()

    def _postgresql(self, url: sql.URL) -> sql.Engine:
        limits = {
            "lock_timeout": LOCK_SECONDS,
            "statement_timeout": STATEMENT_SECONDS,
            "idle_in_transaction_session_timeout": IDLE_SECONDS,
        }
        own = " ".join(f"-c {name}={seconds}s" for name, seconds in limits.items())
        theirs = url.query.get("options", "")
        try:
            engine = sql.create_engine(
                url,
                isolation_level="READ COMMITTED",
                hide_parameters=True,
                connect_args={
                    "connect_timeout": CONNECT_SECONDS,
                    "keepalives_idle": 10,
                    "keepalives_interval": 5,
                    "keepalives_count": 3,
                    "options": f"{theirs if isinstance(theirs, str) else ' '.join(theirs)} {own}".strip(),
                },
            )
        except ModuleNotFoundError as error:
            text = "PostgreSQL needs the package psycopg, which is not installed"
            raise UsageError(text, code="no-psycopg", help="pip install 'nas[postgres]'") from error

        # A new connection asks the server's version before SQLAlchemy hands it out, so both events are needed.
        @sql.event.listens_for(engine, "connect", insert=True)
        def _connected(connection: Any, _: Any) -> None:
            self.watchdog.attach(connection)

        @sql.event.listens_for(engine, "checkout")
        def _taken(connection: Any, _: Any, __: Any) -> None:
            self.watchdog.attach(connection)

        return engine

    def _out_of_reach(self, error: SQLAlchemyError) -> OutOfReach:
        origin = getattr(error, "orig", None) or error
        said = (str(origin).strip().splitlines() or [type(origin).__name__])[0]
        for secret in self._secrets:
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


def _parsed(url: str) -> sql.URL:
    try:
        parsed = sql.make_url(url)
        backend = parsed.get_backend_name()
    except (SQLAlchemyError, ValueError):  # ValueError: a port that is no number
        backend = ""
    if backend == "sqlite":
        return parsed
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    help = "give postgresql://USER@HOST/DATABASE, with the password in PGPASSFILE or PGPASSWORD"
    raise UsageError("a study's database is SQLite or PostgreSQL", where="--storage", help=help)


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
