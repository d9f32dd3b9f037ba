"""Writes single trials into Optuna's tables, as parts of a transaction of the caller.

Each function is one or a few statements. Whether the caller may write the trial at all is not asked here: see
`nas.study.leases`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sql
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from nas.study import checked
from nas.study.checked import LIMIT
from nas.study.database_time import UtcNow
from nas.study.optuna_tables import PARTS, SYSTEM, USER, StoredRows, records_of, value_records

_SET = (
    "INSERT INTO {table} ({owner}, key, value_json) VALUES (:owner, :key, :value) "
    "ON CONFLICT ({owner}, key) DO UPDATE SET value_json = excluded.value_json"
)
SET_OF_TRIAL = {name: sql.text(_SET.format(table=name, owner="trial_id")) for name in (USER, SYSTEM)}


def template(
    state: TrialState,
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
    attributes: Mapping[str, Any],
    system: Mapping[str, Any],
) -> FrozenTrial:
    """Returns a row that has neither a number nor an id yet."""
    return FrozenTrial(
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


class TrialRows:
    """Writes the trials of one study."""

    def __init__(self, stored: StoredRows) -> None:
        self._stored = stored

    def insert(self, connection: sql.Connection, number: int, row: FrozenTrial) -> int:
        """Writes a new row of that number and returns its id. The caller has locked the study and counted."""
        trials = self._stored.tables["trials"]
        running = row.state is TrialState.RUNNING
        head = trials.insert().values(
            study_id=self._stored.study_id,
            number=number,
            state=row.state.name,
            datetime_start=UtcNow() if running else None,
        )
        trial_id: int = connection.execute(head.returning(trials.c.trial_id)).scalar_one()
        for name in PARTS:
            if records := [record | {"trial_id": trial_id} for record in records_of(name, row)]:
                connection.execute(self._stored.tables[name].insert(), records)
        return trial_id

    def attributes(self, connection: sql.Connection, trial_id: int) -> dict[str, Any]:
        """Returns the user attributes of a row. Raises Conflict where one of them is damaged."""
        table = self._stored.tables[USER]
        found = connection.execute(sql.select(table.c.key, table.c.value_json).where(table.c.trial_id == trial_id))
        place = f"trial id {trial_id}"
        return {key: checked.read(text, place, str(key)) for key, text in found}

    def set_attributes(
        self, connection: sql.Connection, trial_id: int, attributes: Mapping[str, Any], table: str = USER
    ) -> None:
        """Sets attributes of a row, and leaves its others as they are."""
        if attributes:
            values = [{"owner": trial_id, "key": k, "value": json.dumps(v)} for k, v in attributes.items()]
            connection.execute(SET_OF_TRIAL[table], values)

    def set_state(self, connection: sql.Connection, trial_id: int, state: TrialState) -> None:
        """Makes an unfinished row RUNNING or WAITING."""
        started = {"datetime_start": UtcNow()} if state is TrialState.RUNNING else {}
        self._change(connection, trial_id, {"state": state.name} | started)

    def finish(
        self,
        connection: sql.Connection,
        trial_id: int,
        state: TrialState,
        values: Sequence[float] | None,
        violations: Mapping[str, float],
    ) -> None:
        """Ends a row with its values and how far it is over each limit (<= 0 is feasible)."""
        limits = {f"{LIMIT}{name}": violation for name, violation in violations.items()}
        self.set_attributes(connection, trial_id, limits, SYSTEM)
        if records := [record | {"trial_id": trial_id} for record in value_records(values or ())]:
            connection.execute(self._stored.tables["trial_values"].insert(), records)
        self._change(connection, trial_id, {"state": state.name, "datetime_complete": UtcNow()})

    def _change(self, connection: sql.Connection, trial_id: int, values: Mapping[str, Any]) -> None:
        trials = self._stored.tables["trials"]
        connection.execute(trials.update().where(trials.c.trial_id == trial_id).values(values))
