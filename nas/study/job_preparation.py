"""Prepares a study for drivers that share it: makes the side tables, and gives every trial its row there.

The launch of a driver does so; reading never does. The rows of a study of an earlier version are adopted: they keep
their numbers, and those that were running wait, since their driver is gone. The caller has made sure of that.

Version 0.1 may go on with a study that is prepared. It knows no jobs, and so the jobs of the trials that it ran are
brought up to date at the next launch too.
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
    _catch_up(connection, jobs)
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


def _catch_up(connection: sql.Connection, jobs: StudyJobs) -> None:
    """Gives the jobs of trials that a driver of version 0.1 has run since the phase and the attempt of these trials.

    A job of today's drivers waits or runs exactly while its trial does.
    """
    trials = jobs.rows.tables["trials"].c
    elsewhere = sql.select(trials.trial_id).where(
        trials.study_id == jobs.study_id, trials.state != TrialState.RUNNING.name
    )
    doubtful = sql.or_(J.phase == Phase.WAITING, sql.and_(J.phase == Phase.RUNNING, J.trial_id.in_(elsewhere)))
    held = jobs.held(connection, J.trial_id.is_not(None), doubtful)
    if not held:
        return
    these = trials.trial_id.in_(sql.select(J.trial_id).where(J.study_id == jobs.study_id, doubtful))
    wanted = sql.select(trials.trial_id, trials.state).where(these)
    states = {trial_id: TrialState[state] for trial_id, state in connection.execute(wanted)}
    told = _attributes(connection, jobs, these)
    changes: dict[int, Mapping[str, Any]] = {}
    for job in held:
        state = states[job.trial_id]
        attributes = checked.row_attributes(told.get(job.trial_id, {}), f"trial {job.number}")
        stands = _standing(attributes, state)
        if stands["phase"] != job.phase or stands["attempt"] > job.attempt:
            attempt = max(stands["attempt"], job.attempt)
            changes[job.job_id] = {**stands, "attempt": attempt, "driver": None, "checkpoint": None}
        if state is TrialState.RUNNING:
            jobs.trials.set_state(connection, job.trial_id, TrialState.WAITING)
    if changes:
        jobs.change(connection, changes)


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
    return {"kind": Kind.TRIAL, "key": key, **_standing(attributes, state)}


def _standing(attributes: Mapping[str, Any], state: TrialState) -> dict[str, Any]:
    """Returns phase, attempt and step of a job whose trial has this state and no living driver."""
    rungs = attributes.get("rungs") or []
    trained = state is TrialState.COMPLETE or (state is TrialState.PRUNED and bool(rungs))
    return {
        "phase": Phase.TRAINED if trained else Phase.OTHER if state.is_finished() else Phase.WAITING,
        "attempt": attributes.get("attempt", 0),
        "step": rungs[-1]["step"] if rungs else 0,
    }
