"""Defines what drivers and the database say to each other about jobs: new jobs, leases on them, and other answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from optuna.distributions import BaseDistribution

from nas.errors import Conflict, OutOfReach
from nas.study.job_tables import Kind


class Lost(Conflict):
    """Says that the job has another owner, or another attempt, by now: whatever this one wanted to write is refused."""

    code = "lease-lost"


class Kept(OutOfReach):
    """Says that a result could not be told, and is kept as a file until it can (nas.study.spool)."""


class Answer(StrEnum):
    """Answers a driver that gets no job."""

    WAIT = "what runs may fill the budget; ask again later"
    END = "the budget is reached, or nothing is left to do"
    PROPOSE = "ask again with a proposal"
    DUPLICATE = "the study has a job of that key; ask again with another proposal"


class Origin(StrEnum):
    """Says where a leased job comes from."""

    NEW = "new"
    WAITING = "waiting"
    TAKEN_OVER = "taken over"
    AGAIN = "again"
    """This very request was answered before, and its answer was lost."""


@dataclass(frozen=True)
class NewJob:
    """Describes a job that the study does not have yet; `key` is made by `job_key`.

    A trial has parameters, as Optuna knows them; other kinds have `parent`, the number of their trial.
    """

    key: str
    attributes: Mapping[str, Any]
    kind: Kind = Kind.TRIAL
    parent: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    system: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lease:
    """Entitles one driver to run one attempt of a job, and to write what becomes of it.

    `number` is the trial's; None for other kinds, which have `parent`. `checkpoint` and `step` are those of the last
    rung that was stored. `attributes` are the job's as they stand, those of this attempt included.
    """

    job_id: int
    kind: Kind
    key: str
    number: int | None
    parent: int | None
    trial_id: int | None
    attempt: int
    checkpoint: str | None
    step: int
    origin: Origin
    attributes: Mapping[str, Any]
    before: str = ""
    """The machine that ran the attempt before this one, where there was one."""

    def __str__(self) -> str:
        name = f"trial {self.number}" if self.kind is Kind.TRIAL else f"{self.kind} of trial {self.parent}"
        return f"{name}, attempt {self.attempt}"


Acquired: TypeAlias = Lease | Answer
