"""One study's rows in an Optuna storage: the only code that writes them, and the only truth about the study.

A trial is one row, whatever happens to its driver. RUNNING goes back to WAITING when its owner is dead or lets go,
and is claimed again under the same number. Finished rows never change: what is learned later (`remeasured:NUMBER`,
`confirmed:NUMBER:SEED`) are attributes of the study.
"""

import logging
import sqlite3
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
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.errors import Conflict, OutOfReach
from nas.results import Constraint, Objective, State, TrialResult, rungs_of
from nas.study.optuna_tables import StoredRows

T = TypeVar("T")
ATTEMPTS, FIRST_PAUSE_SECONDS = 4, 0.1

UNMADE = "if no search is making it just now, one was cut short: search again with its study file"
DAMAGED = "the file is damaged: restore a copy of it, or move the study's folder away and search again"
NO_ANSWER = "check that the disk has room and may be written"


def directions(objectives: Sequence[Objective]) -> list[StudyDirection]:
    """The goals in Optuna's words."""
    return [StudyDirection.MINIMIZE if o.goal == "min" else StudyDirection.MAXIMIZE for o in objectives]


@contextmanager
def quietly() -> Iterator[None]:
    """Optuna tells of each study that it makes; it does not here, and what the host program asked for comes back."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


class Store:
    """Rows are addressed by trial number. Raises OutOfReach when the database does not answer after retries."""

    def __init__(self, study: optuna.Study) -> None:
        self.study = study
        self._storage, self._study_id = study._storage, study._study_id
        self._ids: dict[int, int] = {}
        backend = getattr(self._storage, "_backend", None)
        self._stored = StoredRows(backend.engine, self._study_id) if isinstance(backend, RDBStorage) else None
        self._known: dict[int, FrozenTrial] = {}
        self._unfinished, self._newest = set[int](), -1

    @classmethod
    def create(cls, url: str, name: str, objectives: Sequence[Objective]) -> "Store":
        """A new study. Raises Conflict when one of that name is there."""
        try:
            with quietly():
                study = optuna.create_study(storage=_storage(url), study_name=name, directions=directions(objectives))
        except optuna.exceptions.DuplicatedStudyError:
            raise Conflict(f"study '{name}' exists", code="study-exists", help=f"nas resume {name}") from None
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise _out_of_reach(error) from error
        return cls(study)

    @classmethod
    def only(cls, url: str, name: str, objectives: Sequence[Objective]) -> "Store":
        """The one study of a database, made if there is none, and anew if a driver was killed while it made it."""
        try:
            names = optuna.get_all_study_names(_storage(url))
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise _out_of_reach(error) from error
        if not names:
            return cls.create(url, name, objectives)
        store = cls.open(url, names[0])
        if store.rows() or "settings" in store.attributes():
            return store
        store._try(lambda: store._storage.delete_study(store._study_id))
        return cls.create(url, name, objectives)

    @classmethod
    def open(cls, url: str, name: str | None = None) -> "Store":
        """The stored study of that name, or the only one. Raises Conflict when there is none."""
        try:
            with quietly():
                return cls(optuna.load_study(storage=_storage(url), study_name=name))
        except (KeyError, ValueError):
            text = f"no study '{name}' in this database" if name else "this database holds no study"
            help = "nas list   shows what there is" if name else UNMADE
            raise Conflict(text, code="no-such-study", help=help) from None
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise _out_of_reach(error) from error

    def rows(self) -> list[FrozenTrial]:
        """All rows, by number. Those are read that are new since the last time, or that were not finished then."""
        if self._stored is None:
            self._keep(self._try(lambda: self.study.get_trials(deepcopy=False)))
        else:
            self._keep(self._try(partial(self._stored.read, self._unfinished, self._newest)))
        self._newest = max(self._ids.values(), default=-1)
        return [self._known[number] for number in sorted(self._known)]

    def row(self, number: int) -> FrozenTrial:
        """One row as it is now, of those that were read or written here."""
        if self._stored is None:
            return self._try(lambda: self._storage.get_trial(self._ids[number]))
        if number not in self._known or not self._known[number].state.is_finished():
            self._keep(self._try(partial(self._stored.read, [self._ids[number]])))
        return self._known[number]

    def add(
        self,
        state: TrialState,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attributes: Mapping[str, Any],
        system: Mapping[str, Any],
    ) -> int:
        """Write a whole new row, RUNNING or WAITING, in one transaction. Returns its number."""
        template = FrozenTrial(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            datetime_start=None,
            datetime_complete=None,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs=dict(attributes),
            system_attrs=dict(system),
            intermediate_values={},
        )
        if state is TrialState.RUNNING:
            template.datetime_start = datetime.now()
        return self.add_rows([template])[0]

    def add_rows(self, rows: Sequence[FrozenTrial]) -> list[int]:
        """Write whole new rows, finished ones too, all in one transaction where the storage has such. Their numbers."""
        if self._stored is None:
            ids = [self._try(partial(self._storage.create_new_trial, self._study_id, row)) for row in rows]
            numbered = [(i, self._try(partial(self._storage.get_trial_number_from_id, i))) for i in ids]
        else:
            numbered = self._try(partial(self._stored.write, rows))
        self._ids.update({number: trial_id for trial_id, number in numbered})
        return [number for _, number in numbered]

    def claim(self, number: int) -> bool:
        """WAITING → RUNNING; False when someone else was first."""
        return self._try(lambda: self._storage.set_trial_state_values(self._ids[number], TrialState.RUNNING))

    def release(self, number: int) -> None:
        """RUNNING → WAITING, for whoever claims it next. The caller holds the study's lock, or owns the row."""
        self._try(lambda: self._storage.set_trial_state_values(self._ids[number], TrialState.WAITING))

    def note(self, number: int, key: str, value: Any) -> None:
        """Set an attribute of an unfinished row."""
        self._try(lambda: self._storage.set_trial_user_attr(self._ids[number], key, value))

    def tell(
        self, number: int, state: TrialState, values: Sequence[float] | None, violations: Mapping[str, float]
    ) -> None:
        """Finish a row, its constraints first (<= 0 is feasible). A row that is finished already stays as it is."""
        trial_id = self._ids[number]
        try:
            for name, violation in violations.items():
                # The key under which Optuna 5 keeps Trial.set_constraint; a test reads it back through Optuna.
                key = f"constraints:{name}"
                self._try(lambda k=key, v=violation: self._storage.set_trial_system_attr(trial_id, k, v))  # type: ignore[misc]
            self._try(lambda: self._storage.set_trial_state_values(trial_id, state, values))
        except optuna.exceptions.UpdateFinishedTrialError:
            logging.getLogger("nas").warning("trial %d was finished already; its first result stays", number)

    def attributes(self) -> dict[str, Any]:
        """The study's own attributes."""
        return self._try(lambda: dict(self.study.user_attrs))

    def set_attribute(self, key: str, value: Any) -> None:
        self._try(lambda: self.study.set_user_attr(key, value))

    def close(self) -> None:
        """Give back every connection, so that SQLite joins its journal to the file."""
        self._storage.remove_session()
        if self._stored is not None:
            self._stored.engine.dispose()

    def _keep(self, rows: Iterable[FrozenTrial]) -> None:
        for row in rows:
            self._known[row.number], self._ids[row.number] = row, row._trial_id
            change = self._unfinished.discard if row.state.is_finished() else self._unfinished.add
            change(row._trial_id)

    def _try(self, call: Callable[[], T]) -> T:
        """Again with a growing pause when the database does not answer."""
        pause = FIRST_PAUSE_SECONDS
        for left in reversed(range(ATTEMPTS)):
            try:
                return call()
            except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
                if not left:
                    raise _out_of_reach(error) from error
                time.sleep(pause)  # back-off of a retry, not a wait for work
                pause *= 3
        raise AssertionError("unreachable")


def to_result(row: FrozenTrial, constraints: Sequence[Constraint], newer: Mapping[str, float]) -> TrialResult:
    """A row as the report reads it. `newer` metrics replace the first ones, and are held against the limits anew."""
    attributes = row.user_attrs
    metrics = {**attributes.get("metrics", {}), **newer}
    # A driver may have ended between the reason and the state that it belongs to.
    unsound = row.state in (TrialState.FAIL, TrialState.PRUNED)
    return TrialResult(
        number=row.number,
        state=State(row.state.name),
        architecture_id=attributes["architecture_id"],
        architecture=attributes.get("architecture", {}),
        parameters=attributes.get("parameters", {}),
        params=row.params,
        metrics=metrics,
        rungs=rungs_of(attributes),
        violations={c.metric: c.violation(metrics) for c in constraints} if newer else row.constraints,
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
        finished=row.datetime_complete.timestamp() if row.datetime_complete else None,
    )


def _storage(url: str) -> RDBStorage:
    storage = RDBStorage(url, engine_kwargs={"pool_pre_ping": not url.startswith("sqlite")})
    if url.startswith("sqlite"):
        # A trial's writes take half the time so (measured: 66 against 146 ms for 20 parameters). The journal survives
        # a killed process; only a power cut may lose the last rows, never the file.
        @sqlalchemy.event.listens_for(storage.engine, "connect")
        def _pragmas(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA busy_timeout=10000")

        storage.engine.dispose()
    return storage


def _out_of_reach(error: Exception) -> OutOfReach:
    cause = error.__cause__ or error
    origin = getattr(cause, "orig", None) or cause
    # The lower byte is the primary code; the others tell variants of it apart.
    damaged = getattr(origin, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    text = f"the study's database does not answer: {str(origin).splitlines()[0]}"
    return OutOfReach(text, help=DAMAGED if damaged else NO_ANSWER)


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder.absolute() / 'study.db'}"
