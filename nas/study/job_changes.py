"""Reads what has changed in a study since a driver last looked, and nothing else.

Changes become visible in the order of their numbers (see `nas.study.study_jobs`), and everything is read in one
snapshot, so a driver that asks for what came after the newest number it knows never misses a change. It may see a row
again that it has seen before.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sql
from optuna.trial import FrozenTrial

from nas.study import checked, study_rows
from nas.study.job_tables import JOBS, STUDIES, Kind, Phase
from nas.study.study_jobs import StudyJobs

J = JOBS.c


@dataclass(frozen=True)
class Job:
    """Holds where a job stands."""

    job_id: int
    kind: Kind
    key: str
    trial_id: int | None
    number: int | None
    parent: int | None
    phase: Phase
    attempt: int
    driver: str | None
    version: int
    checkpoint: str | None
    step: int
    hardware: str | None


@dataclass(frozen=True)
class Changes:
    """Holds everything that changed after a version, and the version to ask for next.

    `rows` are the whole trials among the changed `jobs`, as they now stand, in the order in which they ended, those
    that have not ended last. `later` holds the later measurements of trials, by number.
    """

    version: int
    budget: int
    trained: int
    jobs: tuple[Job, ...]
    rows: tuple[FrozenTrial, ...]
    later: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


OF_JOB = [J[name] for name in Job.__dataclass_fields__]


def changes(jobs: StudyJobs, since: int = 0, *, besides: str | None = None) -> Changes:
    """Returns what changed after version `since`; 0 is before everything.

    With `besides`, the id of a driver, the jobs that it was the last to change are left out: it knows them. A job that
    another has taken over from it is told. Raises Conflict where a row is damaged or the study is gone, and OutOfReach.
    """
    after = sql.and_(J.study_id == jobs.study_id, J.version > since)
    if besides is not None:
        after = sql.and_(after, J.driver.is_distinct_from(besides))
    which = jobs.rows.tables["trials"].c.trial_id.in_(sql.select(J.trial_id).where(after, J.trial_id.is_not(None)))

    def body(connection: sql.Connection) -> Changes:
        columns = (STUDIES.c.version, STUDIES.c.budget, STUDIES.c.trained)
        study = connection.execute(sql.select(*columns).where(STUDIES.c.study_id == jobs.study_id)).first()
        if study is None:
            jobs.deleted()
        if study.version <= since:
            return Changes(since, study.budget, study.trained, (), ())
        found = tuple(map(_job, connection.execute(sql.select(*OF_JOB).where(after).order_by(J.version, J.job_id))))
        rows = [checked.row(row) for row in jobs.rows.read_where(connection, which)] if found else []
        _check_numbers(found, rows)
        ended = tuple(sorted(rows, key=lambda row: (row.datetime_complete or datetime.max, row.number)))
        later = study_rows.attributes(connection, jobs.study_id, prefix=checked.REMEASURED) if ended else {}
        told = checked.remeasured(checked.study(later))
        return Changes(study.version, study.budget, study.trained, found, ended, told)

    return jobs.database.read(body)


def _check_numbers(found: Iterable[Job], rows: Iterable[FrozenTrial]) -> None:
    """Raises Conflict where a row has another number than its job: somebody has changed one of them."""
    numbers = {job.trial_id: job.number for job in found}
    for row in rows:
        if row.number != (number := numbers[row._trial_id]):
            checked.damaged(f"trial {number}", "number", row.number, f"{number}, as it was numbered")


def _job(row: sql.Row[tuple[object, ...]]) -> Job:
    """Returns a job as it is stored. Raises Conflict where kind or phase is none."""
    values: dict[str, Any] = row._asdict()
    return checked.call(
        lambda: Job(**values | {"kind": Kind(values["kind"]), "phase": Phase(values["phase"])}),
        f"job {values['job_id']}",
    )
