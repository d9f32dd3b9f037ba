"""Stores one study's rows in an Optuna storage. It is the only code that writes them, and holds the only truth about
the study.

A trial is one row, whatever happens to its driver. RUNNING becomes WAITING when its owner is dead or releases it, and
the row is claimed again under the same number. Finished rows never change: later results (`remeasured:NUMBER`,
`confirmed:NUMBER:SEED`) are attributes of the study.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas import intervals
from nas.errors import Conflict
from nas.results import Constraint, Objective, State, TrialResult, rungs_of
from nas.study import checked, database
from nas.study.database import FORMAT, MARK, UNMADE, sqlite_url
from nas.study.later_measurement import violations
from nas.study.optuna_tables import KNOWN_SCHEMAS, StoredOutcome, StoredRows, schema_of
from nas.study.row_writes import DirectWrites, OptunaWrites, RowWrites
from nas.study.transactions import Database
from nas.study.trial_rows import template

__all__ = ["Store", "directions", "quietly", "sqlite_url", "to_result"]

log = logging.getLogger("nas")

T = TypeVar("T")
METRIC_NAMES = "study:metric_names"
"""The attribute in which Optuna's Study.set_metric_names keeps the names. That call is experimental and warns; a test
reads the names through Optuna.
"""
ATTEMPTS, FIRST_PAUSE_SECONDS = 4, 0.1


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
    """Stores the rows of one study, addressed by trial number.

    Raises OutOfReach when the database does not answer after retries, and Conflict where a row is damaged.
    """

    def __init__(self, storage: BaseStorage, name: str | None = None) -> None:
        """Opens the study of that name, or the only one. Raises Conflict when there is none."""
        self._storage = storage
        try:
            with quietly():
                self.study = optuna.load_study(storage=storage, study_name=name)
            self._study_id = storage.get_study_id_from_name(self.study.study_name)
        except (json.JSONDecodeError, RecursionError, TypeError, AssertionError) as error:
            checked.damaged("study", "attributes", str(error), "JSON, as Optuna writes it")
        except (KeyError, ValueError):
            text = f"no study '{name}' in this database" if name else "this database holds no study"
            help = "nas list   shows the studies" if name else UNMADE
            raise Conflict(text, code="no-such-study", help=help) from None
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise database.out_of_reach(error) from error
        self._ids: dict[int, int] = {}
        self._stored = _tables(storage, self._study_id)
        self._writes: RowWrites = OptunaWrites(storage) if self._stored is None else DirectWrites(self._stored)
        self._known: dict[int, FrozenTrial] = {}
        self._unfinished, self._newest = set[int](), -1

    @classmethod
    def create(cls, place: str | Database, name: str, objectives: Sequence[Objective]) -> "Store":
        """Creates a study in a database or at its address. Raises Conflict when one of that name exists."""
        try:
            storage = _database(place).optuna_storage()
            with quietly():
                study_id = storage.create_new_study(directions(objectives), name)
            storage.set_study_system_attr(study_id, MARK, FORMAT)
        except optuna.exceptions.DuplicatedStudyError:
            raise Conflict(f"study '{name}' exists", code="study-exists", help=f"nas resume {name}") from None
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise database.out_of_reach(error) from error
        store = cls(storage, name)
        store.name_metrics(objectives)
        return store

    @classmethod
    def open(cls, place: str | Database, name: str | None = None) -> "Store":
        """Opens a study to write to, by its name, or the only one, in a database or at its address.

        The caller has made sure that `nas` made the database.
        """
        return cls(of_this_version(_database(place).optuna_storage), name)

    @classmethod
    def read(cls, path: Path) -> "Store":
        """Opens the study in a SQLite file for reading only. It writes nothing and needs no right to write.

        Raises Conflict when the file is not ours or has another version, and OutOfReach when it cannot be read.
        """
        return cls(of_this_version(partial(database.reading_storage, path)))

    def name_metrics(self, objectives: Sequence[Objective]) -> None:
        """Tells Optuna's tools the names of the objectives, unless they are stored already."""
        names = [objective.metric for objective in objectives]
        known = self._try(lambda: self._storage.get_study_system_attrs(self._study_id)).get(METRIC_NAMES)
        if known != names:
            self._try(lambda: self._storage.set_study_system_attr(self._study_id, METRIC_NAMES, names))

    def rows(self) -> list[FrozenTrial]:
        """Returns all rows by number. It reads those that are new since the last call, or were not finished then."""
        if self._stored is None:
            self._keep(self._read(lambda: self.study.get_trials(deepcopy=False)))
        else:
            self._keep(self._read(partial(self._stored.read, self._unfinished, self._newest)))
        self._newest = max(self._ids.values(), default=-1)
        return [self._known[number] for number in sorted(self._known)]

    def outcomes(self) -> list[StoredOutcome] | None:
        """Returns how each trial ended, by number, without reading whole rows; None where Optuna has to read them."""
        found = None if self._stored is None else self._read(self._stored.outcomes)
        self._ids.update({outcome.number: outcome.trial_id for outcome in found or ()})
        return found

    def row(self, number: int) -> FrozenTrial:
        """Returns one row as it is now, out of those that were read, counted or written here."""
        if self._stored is None:
            return checked.row(self._read(lambda: self._storage.get_trial(self._ids[number])))
        if number not in self._known or not self._known[number].state.is_finished():
            self._keep(self._read(partial(self._stored.read, [self._ids[number]])))
        return self._known[number]

    def add(
        self,
        state: TrialState,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attributes: Mapping[str, Any],
        system: Mapping[str, Any],
    ) -> int:
        """Writes a whole new row, RUNNING or WAITING, in one transaction. Returns its number."""
        row = template(state, params, distributions, attributes, system)
        if state is TrialState.RUNNING:
            row.datetime_start = datetime.now()
        return self.add_rows([row])[0]

    def add_rows(self, rows: Sequence[FrozenTrial]) -> list[int]:
        """Writes whole new rows, finished ones too, in one transaction where the storage has such.

        Returns their numbers.
        """
        if self._stored is None:
            ids = [self._try(partial(self._storage.create_new_trial, self._study_id, row)) for row in rows]
            numbered = [(i, self._try(partial(self._storage.get_trial_number_from_id, i))) for i in ids]
        else:
            numbered = self._try(partial(self._stored.write, rows))
        self._ids.update({number: trial_id for trial_id, number in numbered})
        return [number for _, number in numbered]

    def claim(self, number: int) -> bool:
        """Turns WAITING into RUNNING; False when another driver was first."""
        return self._try(partial(self._writes.claim, self._ids[number]))

    def release(self, number: int) -> None:
        """Turns RUNNING into WAITING, so that the row can be claimed again.

        The caller holds the study's lock, or owns the row.
        """
        self._try(partial(self._writes.release, self._ids[number]))

    def note(self, number: int, key: str, value: Any) -> None:
        """Sets an attribute of an unfinished row."""
        self._try(partial(self._writes.note, self._ids[number], key, value))

    def tell(
        self, number: int, state: TrialState, values: Sequence[float] | None, violations: Mapping[str, float]
    ) -> None:
        """Finishes a row with its constraints (<= 0 is feasible). A row that is finished already stays as it is."""
        try:
            self._try(partial(self._writes.finish, self._ids[number], state, values, violations))
        except optuna.exceptions.UpdateFinishedTrialError:
            log.warning("trial %d was finished already; its first result stays", number)

    @property
    def tables(self) -> StoredRows | None:
        """Returns the tables, for questions of others; None where nas does not know their version."""
        return self._stored

    def attributes(self) -> dict[str, Any]:
        """Returns the study's own attributes, checked."""
        return checked.study(self._read(lambda: dict(self.study.user_attrs)))

    def set_attribute(self, key: str, value: Any) -> None:
        self._try(lambda: self.study.set_user_attr(key, value))

    def close(self) -> None:
        """Closes every connection, so that SQLite joins its journal to the file."""
        self._storage.remove_session()
        if isinstance(self._storage, RDBStorage):
            self._storage.engine.dispose()

    def _keep(self, rows: Iterable[FrozenTrial]) -> None:
        for row in map(checked.row, rows):
            self._known[row.number], self._ids[row.number] = row, row._trial_id
            change = self._unfinished.discard if row.state.is_finished() else self._unfinished.add
            change(row._trial_id)

    def _read(self, call: Callable[[], T]) -> T:
        """Reads as `_try` does. Raises Conflict where a value has a kind that Optuna never writes."""
        return checked.call(partial(self._try, call), "the database")

    def _try(self, call: Callable[[], T]) -> T:
        """Repeats a call with a growing pause when the database does not answer."""
        pause = FIRST_PAUSE_SECONDS
        for left in reversed(range(ATTEMPTS)):
            try:
                return call()
            except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
                if not left:
                    raise database.out_of_reach(error) from error
                time.sleep(pause)  # back-off of a retry, not a wait for work
                pause *= 3
        raise AssertionError("unreachable")


def to_result(
    row: FrozenTrial,
    constraints: Sequence[Constraint],
    newer: Mapping[str, float],
    worked: Sequence[intervals.Span] = (),
) -> TrialResult:
    """Returns a row as the report reads it.

    `newer` metrics replace the first ones, and are compared with the limits again. `worked` tells when drivers worked
    on the study.
    """
    attributes = row.user_attrs
    metrics = {**attributes.get("metrics", {}), **newer}
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
        rungs=rungs_of(attributes),
        violations=violations(metrics, constraints) if newer else row.constraints,
        reason=attributes.get("reason", "") if unsound else "",
        detail=attributes.get("detail", "") if unsound else "",
        learning_rate=attributes.get("learning_rate"),
        baseline=attributes.get("baseline", False),
        contended=bool(metrics.get("contended", 0.0)),
        predicted=attributes.get("predicted", {}),
        bound=tuple(attributes.get("bound", ())),
        redraws=attributes.get("redraws"),
        attempt=attributes.get("attempt", 0),
        started=attributes.get("proposed"),
        finished=finished,
        attempts=intervals.attempts(attributes.get("attempts", []), finished, worked),
    )


def _database(place: str | Database) -> Database:
    return place if isinstance(place, Database) else Database(place)


def of_this_version(open_storage: Callable[[], RDBStorage]) -> RDBStorage:
    """Raises Conflict when Optuna says that the tables are of another version, OutOfReach when they cannot be read."""
    try:
        return open_storage()
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise database.out_of_reach(error) from error
    except (RuntimeError, AssertionError) as error:
        detail = (str(error).splitlines() or [""])[0][:500]
        text = "the database was written by another version of Optuna"
        raise Conflict(text, code="other-version", detail=detail, help="install the version that it names") from error


def _tables(storage: BaseStorage, study_id: int) -> StoredRows | None:
    """Returns the study's tables where their schema is known; None where Optuna itself is to read and write the
    rows.
    """
    if not isinstance(storage, RDBStorage):
        return None
    try:
        found = schema_of(storage.engine)
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise database.out_of_reach(error) from error
    if found in KNOWN_SCHEMAS:
        return StoredRows(storage.engine, study_id)
    log.warning("the database has Optuna's tables of version %s, which nas does not know: slower reads", found)
    return None
