"""Reads and writes whole rows of a study, many at a time, directly in Optuna's tables.

Optuna's own storage makes an object of each value and parses each parameter's distribution twice. With 10,000 rows of
16 parameters it takes 9 s to read them, and this module 2 s; it takes 67 statements to add a row, and this module 6.
Optuna reads what is written here as its own; a test compares the two. Intermediate values are left out, since no row of
ours has any.
"""

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import sqlalchemy as sql
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from nas.study import checked

PARTS = {
    "trial_params": "param_id",
    "trial_values": "trial_value_id",
    "trial_user_attributes": "trial_user_attribute_id",
    "trial_system_attributes": "trial_system_attribute_id",
}
"""The tables with what belongs to a trial, and their keys, in the order of writing."""
KNOWN_SCHEMAS = {"v3.2.0.a"}
"""The tests have read and written these versions of Optuna's tables."""
INFINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf}


def schema_of(engine: sql.Engine) -> str:
    """Returns the version of Optuna's tables. Raises what SQLAlchemy raises."""
    with engine.connect() as connection:
        return str(connection.execute(sql.text("SELECT version_num FROM alembic_version")).scalar())


class StoredRows:
    """Reads and writes the rows of one study. Raises what SQLAlchemy raises, and ValueError for damaged rows."""

    def __init__(self, engine: sql.Engine, study_id: int) -> None:
        self.engine, self.study_id = engine, study_id
        self._distributions: dict[str, BaseDistribution] = {}

    def read(self, ids: Collection[int], after: float = math.inf) -> list[FrozenTrial]:
        """Reads the rows with one of these trial ids, or with one greater than `after`, by id."""
        trials = self._tables["trials"]
        which = [trials.c.trial_id.in_(sorted(ids))] + ([trials.c.trial_id > after] if after < math.inf else [])
        wanted = sql.and_(trials.c.study_id == self.study_id, sql.or_(*which))
        with self.engine.connect() as connection:
            heads = connection.execute(sql.select(trials).where(wanted).order_by(trials.c.trial_id)).mappings().all()
            parts = {name: self._parts(connection, name, wanted) for name in PARTS} if heads else {}
        return [self._checked(head, {name: part[head["trial_id"]] for name, part in parts.items()}) for head in heads]

    def write(self, rows: Sequence[FrozenTrial]) -> list[tuple[int, int]]:
        """Writes new rows in one transaction, whatever their state. Returns the trial ids and numbers that they get."""
        if not rows:
            return []
        studies = self._tables["studies"]
        with self.engine.begin() as connection:
            # As Optuna does, so that one writer at a time is given numbers; SQLite has a lock for all that it writes.
            connection.execute(sql.select(studies).where(studies.c.study_id == self.study_id).with_for_update())
            numbered = self._numbered(connection, rows)
            for name in PARTS:
                each = zip(numbered, rows, strict=True)
                found = [record | {"trial_id": i} for (i, _), row in each for record in _records(name, row)]
                if found:
                    connection.execute(self._tables[name].insert(), found)
        return numbered

    def _numbered(self, connection: sql.Connection, rows: Sequence[FrozenTrial]) -> list[tuple[int, int]]:
        """Returns the trial ids and numbers of the rows that are now in the first table."""
        trials = self._tables["trials"]
        insert = trials.insert().values(study_id=self.study_id)
        made = [connection.execute(insert, _head(row)).inserted_primary_key for row in rows]
        ids: list[int] = [key[0] for key in made if key]
        earlier = sql.and_(trials.c.study_id == self.study_id, trials.c.trial_id < min(ids))
        first = connection.execute(sql.select(sql.func.count()).where(earlier)).scalar_one()
        numbered = list(zip(ids, range(first, first + len(ids)), strict=True))
        change = trials.update().where(trials.c.trial_id == sql.bindparam("of")).values(number=sql.bindparam("given"))
        connection.execute(change, [{"of": i, "given": number} for i, number in numbered])
        return numbered

    @cached_property
    def _tables(self) -> Mapping[str, sql.Table]:
        """Reads the tables as they are in the database, so that its own types are used."""
        known = sql.MetaData()
        known.reflect(self.engine, only=["studies", "trials", *PARTS])
        return known.tables

    def _parts(
        self, connection: sql.Connection, name: str, wanted: sql.ColumnElement[bool]
    ) -> dict[int, list[sql.RowMapping]]:
        """Returns the records of one table by trial id."""
        part, trials, found = self._tables[name], self._tables["trials"], defaultdict[int, list[sql.RowMapping]](list)
        joined = sql.select(part).join(trials, trials.c.trial_id == part.c.trial_id).where(wanted)
        for record in connection.execute(joined.order_by(part.c[PARTS[name]])).mappings():
            found[record["trial_id"]].append(record)
        return found

    def _checked(self, head: sql.RowMapping, parts: Mapping[str, Sequence[sql.RowMapping]]) -> FrozenTrial:
        place = f"trial {str(head['number'])[:20]}"
        if not isinstance(head["number"], int) or isinstance(head["number"], bool):
            checked.damaged(place, "number", head["number"], "a whole number")
        return checked.call(lambda: self._trial(head, parts, place), place)

    def _trial(self, head: sql.RowMapping, parts: Mapping[str, Sequence[sql.RowMapping]], place: str) -> FrozenTrial:
        values: dict[int, float] = {
            r["objective"]: INFINITE.get(r["value_type"], r["value"]) for r in parts["trial_values"]
        }
        distributions = {r["param_name"]: self._distribution(r["distribution_json"]) for r in parts["trial_params"]}
        return FrozenTrial(
            number=head["number"],
            trial_id=head["trial_id"],
            state=TrialState[head["state"]],
            value=None,
            values=[values[i] for i in range(len(values))] or None,
            datetime_start=_local(head["datetime_start"]),
            datetime_complete=_local(head["datetime_complete"]),
            params={
                r["param_name"]: distributions[r["param_name"]].to_external_repr(r["param_value"])
                for r in parts["trial_params"]
            },
            distributions=distributions,
            user_attrs=_attributes(parts["trial_user_attributes"], place),
            system_attrs=_attributes(parts["trial_system_attributes"], place),
            intermediate_values={},
        )

    def _distribution(self, text: str) -> BaseDistribution:
        """Returns a parsed distribution; rows share the few that exist."""
        if text not in self._distributions:
            self._distributions[text] = json_to_distribution(text)
        return self._distributions[text]


def _records(name: str, row: FrozenTrial) -> Iterable[dict[str, Any]]:
    """Returns what a row has in one of the tables."""
    match name:
        case "trial_params":
            for param, value in row.params.items():
                distribution = row.distributions[param]
                internal, text = distribution.to_internal_repr(value), distribution_to_json(distribution)
                yield {"param_name": param, "param_value": internal, "distribution_json": text}
        case "trial_values":
            for i, value in enumerate(row.values or ()):
                kind = next((kind for kind, infinite in INFINITE.items() if value == infinite), "FINITE")
                yield {"objective": i, "value": value if kind == "FINITE" else None, "value_type": kind}
        case _:
            attributes = row.user_attrs if name == "trial_user_attributes" else row.system_attrs
            for key, value in attributes.items():
                yield {"key": key, "value_json": json.dumps(value)}


def _head(row: FrozenTrial) -> dict[str, Any]:
    return {
        "state": row.state.name,
        "datetime_start": _utc(row.datetime_start),
        "datetime_complete": _utc(row.datetime_complete),
    }


def _attributes(records: Iterable[sql.RowMapping], place: str) -> dict[str, Any]:
    return {record["key"]: checked.read(record["value_json"], place, str(record["key"])) for record in records}


def _local(utc: datetime | None) -> datetime | None:
    """Converts to local time: Optuna stores UTC and shows local time, both without a zone."""
    return None if utc is None else utc.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def _utc(local: datetime | None) -> datetime | None:
    return None if local is None else local.astimezone(UTC).replace(tzinfo=None)
