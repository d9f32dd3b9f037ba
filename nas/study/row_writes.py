"""Changes single rows of a study, whole changes at a time.

`DirectWrites` does so in Optuna's tables, one transaction and a few statements a change. `OptunaWrites` does the same
by Optuna's own calls, for storages whose tables nas does not know; a test compares the two.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import sqlalchemy as sql
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from nas.study.checked import LIMIT
from nas.study.database_time import UtcNow
from nas.study.optuna_tables import StoredRows
from nas.study.trial_rows import TrialRows

UNFINISHED = [state.name for state in TrialState if not state.is_finished()]


class RowWrites(Protocol):
    """Changes rows by their trial ids. Each change of a finished row raises UpdateFinishedTrialError."""

    def claim(self, trial_id: int) -> bool:
        """Turns WAITING into RUNNING; False where the row is not WAITING."""

    def release(self, trial_id: int) -> None:
        """Turns RUNNING into WAITING."""

    def note(self, trial_id: int, key: str, value: Any) -> None:
        """Sets an attribute."""

    def finish(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None, violations: Mapping[str, float]
    ) -> None:
        """Ends the row with its values and how far it is over each limit (<= 0 is feasible)."""


class OptunaWrites:
    """Makes each change by one or more of Optuna's calls."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage

    def claim(self, trial_id: int) -> bool:
        return self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)

    def release(self, trial_id: int) -> None:
        self._storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def note(self, trial_id: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(trial_id, key, value)

    def finish(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None, violations: Mapping[str, float]
    ) -> None:
        for name, violation in violations.items():
            self._storage.set_trial_system_attr(trial_id, f"{LIMIT}{name}", violation)
        self._storage.set_trial_state_values(trial_id, state, values)


class DirectWrites:
    """Makes each change in one transaction. The first statement writes, so no other writer comes between."""

    def __init__(self, stored: StoredRows) -> None:
        self._stored, self._rows = stored, TrialRows(stored)

    def claim(self, trial_id: int) -> bool:
        with self._stored.engine.begin() as connection:
            changes = {"state": TrialState.RUNNING.name, "datetime_start": UtcNow()}
            return self._change(connection, trial_id, [TrialState.WAITING.name], changes)

    def release(self, trial_id: int) -> None:
        with self._unfinished(trial_id, {"state": TrialState.WAITING.name}):
            pass

    def note(self, trial_id: int, key: str, value: Any) -> None:
        with self._unfinished(trial_id, {}) as connection:
            self._rows.set_attributes(connection, trial_id, {key: value})

    def finish(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None, violations: Mapping[str, float]
    ) -> None:
        with self._unfinished(trial_id, {"state": state.name}) as connection:
            self._rows.finish(connection, trial_id, state, values, violations)

    @contextmanager
    def _unfinished(self, trial_id: int, changes: Mapping[str, Any]) -> Iterator[sql.Connection]:
        """Begins a transaction with these changes. Raises UpdateFinishedTrialError."""
        with self._stored.engine.begin() as connection:
            # A change of nothing locks the row, as any other does.
            same = {"trial_id": trial_id}
            if not self._change(connection, trial_id, UNFINISHED, changes or same):
                raise UpdateFinishedTrialError
            yield connection

    def _change(
        self, connection: sql.Connection, trial_id: int, states: Sequence[str], changes: Mapping[str, Any]
    ) -> bool:
        trials = self._stored.tables["trials"]
        which = sql.and_(trials.c.trial_id == trial_id, trials.c.state.in_(states))
        return connection.execute(trials.update().where(which).values(changes)).rowcount == 1
