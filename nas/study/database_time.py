"""Defines the database's own clock as expressions of SQL, so that no driver's clock counts, nor its time zone.

PostgreSQL's `now()` stands still while a transaction waits for a lock; `clock_timestamp()` goes on.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from nas.intervals import steady_clock

if TYPE_CHECKING:
    from nas.study.transactions import Database


class Moment(FunctionElement[float]):
    """The database's time now, in Unix seconds."""

    type = sql.Double()
    inherit_cache = True


class UtcNow(FunctionElement[Any]):
    """The database's time now, in the form of Optuna's columns of dates: UTC without a zone."""

    type = sql.DateTime()
    inherit_cache = True


@compiles(Moment, "postgresql")
def _moment_on_postgresql(element: Moment, compiler: Any, **_: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


@compiles(Moment, "sqlite")
def _moment_on_sqlite(element: Moment, compiler: Any, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(UtcNow, "postgresql")
def _now_on_postgresql(element: UtcNow, compiler: Any, **_: Any) -> str:
    return "(clock_timestamp() AT TIME ZONE 'UTC')"


@compiles(UtcNow, "sqlite")
def _now_on_sqlite(element: UtcNow, compiler: Any, **_: Any) -> str:
    # SQLAlchemy reads six digits after the point, and SQLite gives three.
    return "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"


def database_clock(database: "Database") -> Callable[[], float]:
    """Returns a clock of Unix seconds that was set once, by the database's time. Raises OutOfReach."""
    return steady_clock(database.read(lambda connection: connection.execute(sql.select(Moment())).scalar_one()))
