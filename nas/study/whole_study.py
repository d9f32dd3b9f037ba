"""Reads a study as a whole, and writes one into a database in a single transaction: a killed copy leaves no half study.

Trials keep their numbers, values, dates and attributes. One that was running waits in the copy, since its driver knows
nothing of it. The jobs of drivers are kept too, with the names of their checkpoints.
"""

import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import sqlalchemy as sql
from optuna.trial import FrozenTrial, TrialState

from nas.errors import Conflict
from nas.results import Objective
from nas.study.database import FORMAT, MARK
from nas.study.job_preparation import make_tables
from nas.study.job_tables import JOBS, STUDIES, Phase
from nas.study.optuna_tables import StoredRows, tables_of
from nas.study.store import METRIC_NAMES, Store, directions
from nas.study.transactions import Database

COPY = "nas:copy"
"""The system attribute by which a transaction that is repeated knows its own work."""
HEAD = ("studies", "study_directions", "study_user_attributes", "study_system_attributes")
KEPT = ("kind", "key", "parent", "attempt", "checkpoint", "step", "hardware", "attributes")
"""The columns of a job that a copy keeps as they are."""


@dataclass(frozen=True)
class WholeStudy:
    """Holds all that a database keeps of a study, apart from its drivers."""

    objectives: tuple[Objective, ...]
    attributes: Mapping[str, Any]
    rows: Sequence[FrozenTrial]
    budget: int
    jobs: Sequence[Mapping[str, Any]] | None = None
    """Rows of `nas_jobs`; None where the study has none, and the next search makes them."""


def jobs_of(store: Store) -> list[Mapping[str, Any]] | None:
    """Reads the jobs of a study by id; None where it has no side tables."""
    wanted = sql.select(JOBS).where(JOBS.c.study_id == store.study_id).order_by(JOBS.c.job_id)

    def body(connection: sql.Connection) -> list[Mapping[str, Any]] | None:
        if not sql.inspect(connection).has_table(JOBS.name):
            return None
        return [dict(row) for row in connection.execute(wanted).mappings()] or None

    return None if store.tables is None else store.ask(body)


def write(database: Database, name: str, study: WholeStudy) -> None:
    """Writes the study under that name. Raises Conflict where the database has one of it, and OutOfReach."""
    database.optuna_storage().engine.dispose()  # it makes Optuna's tables where there are none
    if study.jobs is not None:
        make_tables(database)
    known = sql.MetaData()
    known.reflect(database.engine, only=HEAD)
    if (tables := database.read(tables_of)) is None:
        raise Conflict("the database has Optuna's tables of a version that nas cannot write", code="other-version")
    rows = StoredRows(tables, 0)
    nonce = uuid4().hex
    database.write(lambda connection: _write(connection, rows, known.tables, name, study, nonce))


def _write(
    connection: sql.Connection,
    rows: StoredRows,
    tables: Mapping[str, sql.Table],
    name: str,
    study: WholeStudy,
    nonce: str,
) -> None:
    studies, goals, user, system = (tables[table] for table in HEAD)
    found = connection.execute(sql.select(studies.c.study_id).where(studies.c.study_name == name)).scalar()
    if found is not None:
        ours = sql.select(system.c.value_json).where(system.c.study_id == found, system.c.key == COPY)
        if connection.execute(ours).scalar() == json.dumps(nonce):
            return
        raise Conflict(f"study '{name}' exists", code="study-exists", help="choose another name")
    study_id = connection.execute(studies.insert().values(study_name=name).returning(studies.c.study_id)).scalar_one()
    ordered = [
        {"study_id": study_id, "objective": i, "direction": goal.name}
        for i, goal in enumerate(directions(study.objectives))
    ]
    connection.execute(goals.insert(), ordered)
    names = [objective.metric for objective in study.objectives]
    marks = {MARK: FORMAT, METRIC_NAMES: names, COPY: nonce}
    for table, attributes in ((user, study.attributes), (system, marks)):
        records = [{"study_id": study_id, "key": k, "value_json": json.dumps(v)} for k, v in attributes.items()]
        connection.execute(table.insert(), records)
    rows.study_id = study_id
    numbered = rows.write(connection, [_resting(row) for row in study.rows])
    if study.jobs is not None:
        _write_jobs(connection, study_id, study, {number: trial_id for trial_id, number in numbered})


def _resting(row: FrozenTrial) -> FrozenTrial:
    """Returns the row as it stands when no driver works on it."""
    if row.state is not TrialState.RUNNING:
        return row
    waiting = copy(row)
    waiting.state = TrialState.WAITING
    return waiting


def _write_jobs(connection: sql.Connection, study_id: int, study: WholeStudy, ids: Mapping[int, int]) -> None:
    jobs = study.jobs or ()
    trained = sum(job["phase"] == Phase.TRAINED and job["number"] is not None for job in jobs)
    first = {"study_id": study_id, "budget": study.budget, "trained": trained, "version": 1}
    connection.execute(STUDIES.insert().values(first))
    records = [
        {name: job[name] for name in KEPT}
        | {"study_id": study_id, "number": job["number"], "trial_id": ids.get(job["number"]), "version": 1}
        | {"phase": Phase.WAITING if job["phase"] == Phase.RUNNING else job["phase"], "driver": None, "nonce": None}
        for job in jobs
    ]
    if records:
        connection.execute(JOBS.insert(), records)
