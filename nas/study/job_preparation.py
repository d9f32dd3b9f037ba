"""Prepares a study for drivers that share it: makes the side tables, and gives every trial its row there.

The launch of a driver does so; reading never does. The rows of a study of an earlier version are adopted: they keep
their numbers, and those that were running wait, since their driver is gone. The caller has made sure of that.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sql
from optuna.trial import TrialState

from nas.errors import OutOfReach
from nas.study import checked
from nas.study.job_tables import JOBS, METADATA, OURS, STUDIES, Kind, Phase, job_key
from nas.study.optuna_tables import USER
from nas.study.study_jobs import StudyJobs
from nas.study.transactions import Database

J = JOBS.c
TELLING = ("architecture_id", "learning_rate", "retry_of", "attempt", "rungs")
"""The attributes that decide a row's key, its attempt and its phase."""
TRIES = 3
MADE_MEANWHILE = ("42P07", "42710", "23505")
"""PostgreSQL's answers where a table, or its type, is there already."""


def prepare(jobs: StudyJobs, budget: int) -> int:
    """Makes what is missing of the side tables and their rows. Returns how many trials were adopted.

    `budget` holds where the study has none yet. Raises Conflict where a row is not one of ours, and OutOfReach.
    """
    make_tables(jobs.database)
    return jobs.database.write(lambda connection: _prepare(connection, jobs, budget))


def is_prepared(jobs: StudyJobs) -> bool:
    """Tells whether the study has its rows in the side tables, which only a launch makes."""

    def body(connection: sql.Connection) -> bool:
        if not sql.inspect(connection).has_table(STUDIES.name):
            return False
        row = sql.select(STUDIES.c.study_id).where(STUDIES.c.study_id == jobs.study_id)
        return connection.execute(row).first() is not None

    return jobs.database.read(body)


def make_tables(database: Database) -> None:
    """Makes the side tables where there are none.

    Of two drivers that do so at once on PostgreSQL, one fails, and then finds them made.
    """
    for left in reversed(range(TRIES)):
        try:
            return database.write(lambda connection: METADATA.create_all(connection, tables=OURS))
        except OutOfReach as error:
            state = getattr(getattr(error.__cause__, "orig", None), "sqlstate", "")
            if state not in MADE_MEANWHILE or not left:
                raise


def _prepare(connection: sql.Connection, jobs: StudyJobs, budget: int) -> int:
    jobs.lock(connection)
    row = STUDIES.c.study_id == jobs.study_id
    # Locked before anything is counted: results are told without the study's lock.
    known = connection.execute(sql.select(STUDIES.c.study_id).where(row).with_for_update()).first()
    if known is None:
        first = {"study_id": jobs.study_id, "budget": budget, "trained": 0, "version": 0}
        connection.execute(STUDIES.insert().values(first))
    adopted = _adopt(connection, jobs)
    trained = sql.select(sql.func.count()).where(
        J.study_id == jobs.study_id, J.kind == Kind.TRIAL, J.phase == Phase.TRAINED
    )
    connection.execute(STUDIES.update().where(row).values(trained=trained.scalar_subquery()))
    return adopted


def _adopt(connection: sql.Connection, jobs: StudyJobs) -> int:
    """Gives a job to every trial that has none. Returns how many these were."""
    trials = jobs.rows.tables["trials"].c
    have = sql.exists().where(J.trial_id == trials.trial_id)
    missing = sql.and_(trials.study_id == jobs.study_id, sql.not_(have))
    columns = (trials.trial_id, trials.number, trials.state)
    rows = connection.execute(sql.select(*columns).where(missing).order_by(trials.trial_id)).all()
    if not rows:
        return 0
    told = _attributes(connection, jobs, missing)
    keys = set(connection.execute(sql.select(J.key).where(J.study_id == jobs.study_id)).scalars())
    version = jobs.count_change(connection)
    values, interrupted = [], []
    for trial_id, number, state in rows:
        attributes = checked.row_attributes(told.get(trial_id, {}), f"trial {number}")
        job = _job(attributes, number, TrialState[state], keys)
        keys.add(job["key"])
        values.append(job | {"study_id": jobs.study_id, "trial_id": trial_id, "number": number, "version": version})
        if TrialState[state] is TrialState.RUNNING:
            interrupted.append(trial_id)
    connection.execute(JOBS.insert(), values)
    for trial_id in interrupted:
        jobs.trials.set_state(connection, trial_id, TrialState.WAITING)
    return len(rows)


def _attributes(
    connection: sql.Connection, jobs: StudyJobs, missing: sql.ColumnElement[bool]
) -> Mapping[int, dict[str, Any]]:
    """Returns those attributes of the rows that decide about their jobs, by trial id."""
    user, trials = jobs.rows.tables[USER].c, jobs.rows.tables["trials"].c
    wanted = sql.select(user.trial_id, user.key, user.value_json).join_from(
        jobs.rows.tables[USER], jobs.rows.tables["trials"], trials.trial_id == user.trial_id
    )
    found: dict[int, dict[str, Any]] = {}
    for trial_id, key, text in connection.execute(wanted.where(missing, user.key.in_(TELLING))):
        found.setdefault(trial_id, {})[key] = checked.read(text, f"trial id {trial_id}", key)
    return found


def _job(attributes: Mapping[str, Any], number: int, state: TrialState, keys: set[str]) -> dict[str, Any]:
    """Returns the job of an old row. Of rows with one key, which there were before jobs, later ones get their own."""
    architecture, rate = checked.needed(attributes, "architecture_id", number), attributes.get("learning_rate")
    retried = attributes.get("retry_of")
    key = job_key(architecture, rate, again="" if retried is None else str(retried))
    if key in keys:
        key = job_key(architecture, rate, again=f"row-{number}")
    trained = state is TrialState.COMPLETE or (state is TrialState.PRUNED and bool(attributes.get("rungs")))
    phase = Phase.TRAINED if trained else Phase.OTHER if state.is_finished() else Phase.WAITING
    rungs = attributes.get("rungs") or []
    return {
        "kind": Kind.TRIAL,
        "key": key,
        "phase": phase,
        "attempt": attributes.get("attempt", 0),
        "step": rungs[-1]["step"] if rungs else 0,
    }
