"""Reads one study's rows and attributes out of Optuna's tables, and writes its attributes: the only truth about it.

A trial is one row, whatever happens to its driver. Drivers change rows under leases (nas.study.leases). Finished rows
never change: later measurements (`remeasured:NUMBER`) are attributes of the study, and confirmations are jobs
(nas.study.stored_confirmations).
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy as sql
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas import intervals
from nas.errors import Conflict
from nas.measurement import with_later
from nas.reasons import Control
from nas.results import Constraint, Objective, State, TrialResult, rungs_of
from nas.study import checked, database, study_rows
from nas.study.database import FORMAT, MARK, UNMADE, sqlite_url
from nas.study.later_measurement import violations
from nas.study.optuna_tables import StoredOutcome, StoredRows, schema_of, tables_of
from nas.study.transactions import Database

__all__ = ["Store", "directions", "quietly", "sqlite_url", "to_result"]

log = logging.getLogger("nas")

T = TypeVar("T")
METRIC_NAMES = "study:metric_names"
"""The attribute in which Optuna's Study.set_metric_names keeps the names. That call is experimental and warns; a test
reads the names through Optuna.
"""
READING_SECONDS = 1.5
"""A read is repeated for so long when the database does not answer."""
TURN = sql.text("SELECT pg_advisory_xact_lock(7235427)")
"""Waits until no other driver makes tables in this database; the number is that of no one else."""


def directions(objectives: Sequence[Objective]) -> list[StudyDirection]:
    """Returns the goals in Optuna's words."""
    return [StudyDirection.MINIMIZE if o.goal == "min" else StudyDirection.MAXIMIZE for o in objectives]


@contextmanager
def quietly() -> Iterator[None]:
    """Silences Optuna's message about each new study while the block runs, then restores the host program's setting."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


class Store:
    """Reads the rows of one study, addressed by trial number, and its attributes, which it writes too.

    Raises OutOfReach when the database does not answer after retries, and Conflict where a row is damaged, or where the
    rows have not the numbers from 0 up, each once.
    """

    def __init__(self, database: Database, name: str | None = None) -> None:
        """Opens the study of that name, or the only one. Raises Conflict when there is none."""
        self.database = database
        found = self._read(partial(study_rows.find, name=name))
        if not found:
            text = f"no study '{name}' in this database" if name else "this database holds no study"
            help = "nas list   shows the studies" if name else UNMADE
            raise Conflict(text, code="no-such-study", help=help)
        self.study_id, self.name = found[0]
        tables = self._read(tables_of)
        self._stored = None if tables is None else StoredRows(tables, self.study_id)
        if self._stored is None:
            self._optuna  # noqa: B018  fails here where Optuna cannot read the tables either
            text = "the database has Optuna's tables of version %s, which nas does not know: slower reads"
            log.warning(text, self._read(schema_of))
        self._ids: dict[int, int] = {}
        self._known: dict[int, FrozenTrial] = {}
        self._unfinished, self._newest = set[int](), -1

    @classmethod
    def create(
        cls,
        place: str | Database,
        name: str,
        objectives: Sequence[Objective],
        attributes: Mapping[str, Any] | None = None,
    ) -> "Store":
        """Creates a study with these attributes, as a whole or not at all, in a database or at its address.

        Raises Conflict when one of that name exists.
        """
        made = _database(place)
        try:
            _make_tables(made)
            system = {MARK: FORMAT, METRIC_NAMES: [objective.metric for objective in objectives]}
            goals = directions(objectives)
            if not made.write(lambda c: study_rows.insert(c, name, goals, attributes or {}, system)):
                raise Conflict(f"study '{name}' exists", code="study-exists", help=f"nas resume {name}")
            return cls(made, name)
        except BaseException:
            made.close()
            raise

    @classmethod
    def open(cls, place: str | Database, name: str | None = None) -> "Store":
        """Opens a study to write to, by its name, or the only one, in a database or at its address.

        The caller has made sure that `nas` made the database.
        """
        return cls(_database(place), name)

    @classmethod
    def read(cls, path: Path) -> "Store":
        """Opens the study in a SQLite file for reading only. It writes nothing and needs no right to write.

        Raises Conflict when the file is not ours or has another version, and OutOfReach when it cannot be read.
        """
        database.refuse_foreign(path)
        return cls(Database(path, patience=READING_SECONDS))

    def name_metrics(self, objectives: Sequence[Objective]) -> None:
        """Tells Optuna's tools the names of the objectives, unless they are stored already."""
        names = [objective.metric for objective in objectives]
        known = self._read(lambda c: study_rows.attributes(c, self.study_id, study_rows.SYSTEM)).get(METRIC_NAMES)
        if known != names:
            self.database.write(
                lambda c: study_rows.set_attribute(c, self.study_id, METRIC_NAMES, names, study_rows.SYSTEM)
            )

    def goals(self) -> int:
        """Returns how many objectives the study has."""
        return self._read(lambda c: study_rows.goals_of(c, self.study_id))

    def rows(self) -> list[FrozenTrial]:
        """Returns all rows by number. It reads those that are new since the last call, or were not finished then."""
        if self._stored is None:
            self._keep(checked.call(lambda: self._optuna.get_all_trials(self.study_id, deepcopy=False), "the database"))
        else:
            self._keep(self._read(partial(self._stored.read, ids=self._unfinished, after=self._newest)))
        self._newest = max(self._ids.values(), default=-1)
        checked.numbers(self._known)
        return [self._known[number] for number in sorted(self._known)]

    def outcomes(self) -> list[StoredOutcome] | None:
        """Returns how each trial ended, by number, without reading whole rows; None where Optuna has to read them."""
        found = None if self._stored is None else self._read(self._stored.outcomes)
        checked.numbers(outcome.number for outcome in found or ())
        self._ids.update({outcome.number: outcome.trial_id for outcome in found or ()})
        return found

    def row(self, number: int) -> FrozenTrial:
        """Returns one row as it is now, out of those that were read, counted or written here."""
        if self._stored is None:
            return checked.row(self._optuna.get_trial(self._ids[number]))
        if number not in self._known or not self._known[number].state.is_finished():
            self._keep(self._read(partial(self._stored.read, ids=[self._ids[number]])))
        return self._known[number]

    def add_rows(self, rows: Sequence[FrozenTrial]) -> list[int]:
        """Writes whole new rows, whatever their state, in one transaction. Returns their numbers.

        Trials of other programs come so; those of a search come by nas.study.leases.
        """
        if self._stored is None:
            raise Conflict("the database has Optuna's tables of a version that nas cannot write", code="other-version")
        stored = self._stored
        numbered = self.database.write(lambda connection: stored.write(connection, rows))
        self._ids.update({number: trial_id for trial_id, number in numbered})
        return [number for _, number in numbered]

    @property
    def tables(self) -> StoredRows | None:
        """Returns the tables, for questions of others; None where nas does not know their version."""
        return self._stored

    def ask(self, question: Callable[[sql.Connection], T]) -> T:
        """Answers a question of others, in one snapshot."""
        return self._read(question)

    def attributes(self) -> dict[str, Any]:
        """Returns the study's own attributes, checked."""
        return checked.study(self._read(lambda c: study_rows.attributes(c, self.study_id)))

    def set_attribute(self, key: str, value: Any) -> None:
        self.database.write(lambda connection: study_rows.set_attribute(connection, self.study_id, key, value))

    def close(self) -> None:
        """Closes every connection, so that SQLite joins its journal to the file."""
        if "_optuna" in vars(self):
            self._optuna.remove_session()
            self._optuna.engine.dispose()
        self.database.close()

    @cached_property
    def _optuna(self) -> RDBStorage:
        """Returns Optuna's own storage, which reads tables that nas does not know."""
        return of_this_version(self.database.optuna_storage)

    def _keep(self, rows: Iterable[FrozenTrial]) -> None:
        for row in map(checked.row, rows):
            if row.number in self._known and self._known[row.number]._trial_id != row._trial_id:
                checked.damaged(f"trial {row.number}", "number", row.number, "a number that no other trial has")
            self._known[row.number], self._ids[row.number] = row, row._trial_id
            change = self._unfinished.discard if row.state.is_finished() else self._unfinished.add
            change(row._trial_id)

    def _read(self, body: Callable[[sql.Connection], T]) -> T:
        """Reads in one snapshot. Raises Conflict where a value has a kind that Optuna never writes."""
        return checked.call(partial(self.database.read, body), "the database")


def to_result(
    row: FrozenTrial,
    constraints: Sequence[Constraint],
    newer: Mapping[str, float],
    worked: Sequence[intervals.Span] = (),
    measurement: Mapping[str, Any] | None = None,
) -> TrialResult:
    """Returns a row as the report reads it.

    `newer` metrics replace the first ones, and are compared with the limits again; `measurement` tells how they were
    measured. `worked` tells when drivers worked on the study.
    """
    attributes = row.user_attrs
    metrics = with_later(attributes.get("metrics", {}), newer)
    # A driver may have ended between the reason and the state that it belongs to.
    unsound = row.state in (TrialState.FAIL, TrialState.PRUNED)
    finished = row.datetime_complete.timestamp() if row.datetime_complete else None
    return TrialResult(
        number=row.number,
        state=State(row.state.name),
        architecture_id=checked.needed(attributes, "architecture_id", row.number),
        architecture={} if "parameters" in attributes else checked.needed(attributes, "architecture", row.number),
        parameters=attributes.get("parameters", {}),
        params=row.params,
        metrics=metrics,
        measurement=measurement or attributes.get("measurement", {}),
        rungs=rungs_of(attributes),
        violations=violations(metrics, constraints) if newer else row.constraints,
        reason=attributes.get("reason", "") if unsound else "",
        detail=attributes.get("detail", "") if unsound else "",
        learning_rate=attributes.get("learning_rate"),
        baseline=attributes.get("baseline", False),
        contended=bool(metrics.get("contended", 0.0)),
        predicted=attributes.get("predicted", {}),
        bound=tuple(attributes.get("bound", ())),
        control=Control.from_stored(attributes),
        redraws=attributes.get("redraws"),
        attempt=attributes.get("attempt", 0),
        started=attributes.get("proposed"),
        finished=finished,
        attempts=intervals.attempts(attributes.get("attempts", []), finished, worked),
    )


def _database(place: str | Database) -> Database:
    return place if isinstance(place, Database) else Database(place)


def _make_tables(made: Database) -> None:
    """Makes Optuna's tables where there are none. On a server, one driver at a time does so."""

    def body(connection: sql.Connection) -> None:
        connection.execute(TURN)
        if not study_rows.has_tables(connection):
            _make_them(made)

    if made.read(study_rows.has_tables):
        return
    if made.engine.dialect.name == "sqlite":
        _make_them(made)
    else:
        made.write(body)


def _make_them(made: Database) -> None:
    storage = of_this_version(made.optuna_storage)
    storage.remove_session()
    storage.engine.dispose()


def of_this_version(open_storage: Callable[[], RDBStorage]) -> RDBStorage:
    """Raises Conflict when Optuna says that the tables are of another version, OutOfReach when they cannot be read."""
    try:
        return open_storage()
    except (sql.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise database.out_of_reach(error) from error
    except (RuntimeError, AssertionError) as error:
        detail = (str(error).splitlines() or [""])[0][:500]
        text = "the database was written by another version of Optuna"
        raise Conflict(text, code="other-version", detail=detail, help="install the version that it names") from error
