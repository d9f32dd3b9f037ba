"""Defines the side tables that stand beside Optuna's: what drivers need to share a study.

    nas_studies   one row a study: its budget, how many trials are trained, and the number of its newest change
    nas_drivers   one row a driver, ended ones too: where it runs, its last heartbeat, whether it is asked to stop
    nas_jobs      one row a job: who runs it, in which attempt, and how far it is

A trial is one kind of job, and the only one that is also a row of Optuna's and counts towards the budget. All rows go
with Optuna's study or trial when that is deleted: by foreign keys, and on SQLite by triggers too, since Optuna leaves
the foreign keys of SQLite off.
"""

from enum import StrEnum
from typing import Any

import sqlalchemy as sql

NAME, LONG_NAME = sql.String(64), sql.String(255)


class Kind(StrEnum):
    """Names what a job does: a trial, its repetition with another seed, or the making of a compressed form of it.

    `CLOSING` is what one driver does for all of them once a search has ended: see `nas.study.closing_job`.
    """

    TRIAL = "trial"
    CONFIRMATION = "confirmation"
    FORM = "form"
    CLOSING = "closing"


class Phase(StrEnum):
    """Names where a job stands. `TRAINED` counts towards the budget; `OTHER` ended in another way."""

    WAITING = "waiting"
    RUNNING = "running"
    TRAINED = "trained"
    OTHER = "other"


FINISHED = (Phase.TRAINED, Phase.OTHER)

METADATA = sql.MetaData()
for _optuna, _key in (
    ("studies", "study_id"),
    ("trials", "trial_id"),
):  # foreign keys alone need these; Optuna has them
    sql.Table(_optuna, METADATA, sql.Column(_key, sql.Integer, primary_key=True))


def _of(optuna: str, *, primary_key: bool = False, nullable: bool = False) -> sql.Column[int]:
    """Makes the column that ties a row to Optuna's table."""
    name = {"studies": "study_id", "trials": "trial_id"}[optuna]
    key = sql.ForeignKey(f"{optuna}.{name}", ondelete="CASCADE")
    return sql.Column(name, sql.Integer, key, primary_key=primary_key, autoincrement=False, nullable=nullable)


STUDIES = sql.Table(
    "nas_studies",
    METADATA,
    _of("studies", primary_key=True),
    sql.Column("budget", sql.Integer, nullable=False),
    sql.Column("trained", sql.Integer, nullable=False),
    sql.Column("version", sql.BigInteger, nullable=False),
)
DRIVERS = sql.Table(
    "nas_drivers",
    METADATA,
    sql.Column("driver", NAME, primary_key=True),
    _of("studies"),
    sql.Column("ordinal", sql.Integer, nullable=False),
    sql.Column("host", LONG_NAME, nullable=False),
    sql.Column("pid", sql.Integer, nullable=False),
    sql.Column("process", LONG_NAME, nullable=False),
    sql.Column("hardware", LONG_NAME, nullable=False),
    sql.Column("started", sql.Double, nullable=False),
    sql.Column("heartbeat", sql.Double, nullable=False),
    sql.Column("stop", sql.Integer, nullable=False),
    sql.Column("ended", sql.Double),
    sql.Index("nas_drivers_of_study", "study_id"),
)
JOBS = sql.Table(
    "nas_jobs",
    METADATA,
    sql.Column("job_id", sql.Integer, primary_key=True),
    _of("studies"),
    sql.Column("kind", sql.String(16), nullable=False),
    sql.Column("key", LONG_NAME, nullable=False),
    _of("trials", nullable=True),
    sql.Column("number", sql.Integer),
    sql.Column("parent", sql.Integer),
    sql.Column("phase", sql.String(8), nullable=False),
    sql.Column("attempt", sql.Integer, nullable=False),
    sql.Column("driver", NAME),
    sql.Column("nonce", NAME),
    sql.Column("version", sql.BigInteger, nullable=False),
    sql.Column("checkpoint", LONG_NAME),
    sql.Column("step", sql.BigInteger, nullable=False),
    sql.Column("hardware", LONG_NAME),
    sql.Column("attributes", sql.Text),
    sql.UniqueConstraint("trial_id"),
    sql.UniqueConstraint("study_id", "key"),
    sql.UniqueConstraint("study_id", "number"),
    sql.UniqueConstraint("study_id", "nonce"),
    sql.Index("nas_jobs_by_phase", "study_id", "phase", "job_id"),
    sql.Index("nas_jobs_by_version", "study_id", "version"),
)
"""`number` and `trial_id` are a trial's own. Other kinds have `parent`, the number of their trial, and keep in
`attributes` (a JSON object) what a trial keeps in Optuna's tables. `key` tells two jobs apart: see `job_key`.
"""
OURS = (STUDIES, DRIVERS, JOBS)
_ddl: Any = sql.DDL  # its constructor has no types

for _table, _column, _optuna in (
    (STUDIES, "study_id", "studies"),
    (DRIVERS, "study_id", "studies"),
    (JOBS, "study_id", "studies"),
    (JOBS, "trial_id", "trials"),
):
    _trigger = (
        f"CREATE TRIGGER {_table.name}_of_{_optuna} AFTER DELETE ON {_optuna} "
        f"BEGIN DELETE FROM {_table.name} WHERE {_column} = OLD.{_column}; END"
    )
    sql.event.listen(_table, "after_create", _ddl(_trigger).execute_if(dialect="sqlite"))


def job_key(architecture_id: str, learning_rate: float | None, kind: Kind = Kind.TRIAL, again: str = "") -> str:
    """Returns what makes two jobs the same: architecture, learning rate where that is searched, kind, and `again`.

    `again` is the seed of a confirmation, the form that is made, or the number of the failed trial that is tried again.
    """
    design = architecture_id if learning_rate is None else f"{architecture_id}@{learning_rate!r}"
    return design if kind is Kind.TRIAL and not again else f"{design}/{kind}/{again}"
