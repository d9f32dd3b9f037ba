"""Finds and writes whole studies in Optuna's tables: their names, goals and attributes, as parts of a transaction.

Optuna itself writes a new study by several transactions, and a driver that is killed between two of them, or starts at
the same moment as another, would leave or find a study without settings.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sql
from optuna.study import StudyDirection

from nas.study import checked

STUDIES = sql.table("studies", sql.column("study_id"), sql.column("study_name"))
GOALS = sql.table(
    "study_directions",
    sql.column("study_id"),
    sql.column("objective"),
    sql.column("direction", sql.Enum(StudyDirection, name="studydirection")),
)
USER, SYSTEM = "study_user_attributes", "study_system_attributes"
ATTRIBUTES = {
    name: sql.table(name, sql.column("study_id"), sql.column("key"), sql.column("value_json"))
    for name in (USER, SYSTEM)
}
NEW = sql.text("INSERT INTO studies (study_name) VALUES (:name) ON CONFLICT (study_name) DO NOTHING RETURNING study_id")
SET = {
    name: sql.text(
        f"INSERT INTO {name} (study_id, key, value_json) VALUES (:study, :key, :value) "
        "ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json"
    )
    for name in ATTRIBUTES
}


def has_tables(connection: sql.Connection) -> bool:
    """Tells whether the database has Optuna's tables. It makes the table of their version last."""
    return sql.inspect(connection).has_table("alembic_version")


def find(connection: sql.Connection, name: str | None) -> Sequence[tuple[int, str]]:
    """Returns id and name of the study of that name, or of the first two that there are."""
    wanted = sql.select(STUDIES.c.study_id, STUDIES.c.study_name).order_by(STUDIES.c.study_id).limit(2)
    found = connection.execute(wanted if name is None else wanted.where(STUDIES.c.study_name == name))
    return [(study_id, found_name) for study_id, found_name in found]


def insert(
    connection: sql.Connection,
    name: str,
    goals: Sequence[StudyDirection],
    attributes: Mapping[str, Any],
    system: Mapping[str, Any],
) -> bool:
    """Writes a new study. False, and nothing is written, where there is one of that name."""
    study_id: int | None = connection.execute(NEW, {"name": name}).scalar()
    if study_id is None:
        return False
    rows = [{"study_id": study_id, "objective": i, "direction": goal} for i, goal in enumerate(goals)]
    connection.execute(GOALS.insert(), rows)
    for table, given in ((USER, attributes), (SYSTEM, system)):
        for key, value in given.items():
            set_attribute(connection, study_id, key, value, table)
    return True


def goals_of(connection: sql.Connection, study_id: int) -> int:
    """Returns how many objectives a study has."""
    wanted = sql.select(sql.func.count()).select_from(GOALS).where(GOALS.c.study_id == study_id)
    return int(connection.execute(wanted).scalar_one())


def attributes(connection: sql.Connection, study_id: int, table: str = USER, prefix: str = "") -> dict[str, Any]:
    """Returns the attributes of a study whose keys begin so. Raises Conflict where one of them is no JSON."""
    columns = ATTRIBUTES[table].c
    wanted = sql.select(columns.key, columns.value_json).where(columns.study_id == study_id)
    found = connection.execute(wanted.where(columns.key.startswith(prefix, autoescape=True)) if prefix else wanted)
    return {key: checked.read(text, "study", str(key)) for key, text in found}


def set_attribute(connection: sql.Connection, study_id: int, key: str, value: Any, table: str = USER) -> None:
    """Sets an attribute of a study."""
    connection.execute(SET[table], {"study": study_id, "key": key, "value": json.dumps(value)})
