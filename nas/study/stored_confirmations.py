"""Reads the confirmations of a study: the jobs that trained its front again, measured it again and tested it.

Each job keeps its result in its attributes:

    again "seed:S" or "seed:S:STEPS"    a training: seed, steps, rungs, metrics; reason and detail where it failed
    again "test:S" or "test:S:STEPS"    its evaluation on the test split: seed, steps, test
    again "block:K@HARDWARE"            a measurement while nothing trains: began, metrics, hardware, measurement
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sql

from nas.confirmation import Block, Confirmation, Retraining
from nas.results import TrialResult
from nas.rungs import rungs_of
from nas.study import checked
from nas.study.job_tables import FINISHED, JOBS, Kind, job_key
from nas.study.store import Store

J = JOBS.c
TRAINING, TEST, BLOCK = "seed", "test", "block"
"""The names of jobs begin so."""
COLUMNS = (J.job_id, J.parent, J.key, J.phase, J.attributes)
Stored = tuple[int, dict[str, Any]]
"""The number of the trial, and the attributes of a finished job."""


@dataclass(frozen=True)
class Confirmed:
    """Holds where the confirmation of a study stands: results by trial, and the jobs that have ended or not.

    A job is named by its trial and `again`; see the top of this file.
    """

    results: Mapping[int, Confirmation] = field(default_factory=dict)
    ended: frozenset[tuple[int, str]] = frozenset()
    begun: frozenset[tuple[int, str]] = frozenset()
    """The jobs that run, or wait to go on."""


def confirmed(store: Store) -> Confirmed:
    """Returns where the confirmation of a study stands. Raises Conflict where a job is damaged."""
    if store.tables is None:
        return Confirmed()
    return store.ask(lambda connection: look(connection, store.study_id))


def look(connection: sql.Connection, study_id: int) -> Confirmed:
    """Returns where it stands, in a transaction of the caller; nothing where the study has no side tables yet."""
    if not sql.inspect(connection).has_table(JOBS.name):
        return Confirmed()
    ours = (J.study_id == study_id, J.kind == Kind.CONFIRMATION)
    rows = connection.execute(sql.select(*COLUMNS).where(*ours).order_by(J.job_id)).all()
    ended = [row for row in rows if row.phase in FINISHED]
    return Confirmed(read(ended), _names(ended), _names(row for row in rows if row.phase not in FINISHED))


def key_of(trial: TrialResult, again: str) -> str:
    """Returns the key of a job, which two trials of one architecture do not share."""
    return job_key(trial.architecture_id, trial.learning_rate, Kind.CONFIRMATION, f"{trial.number}/{again}")


def _names(rows: Iterable[Any]) -> frozenset[tuple[int, str]]:
    return frozenset((row.parent, row.key.rpartition("/")[2]) for row in rows)


def read(rows: Sequence[Any]) -> dict[int, Confirmation]:
    """Returns what these finished jobs say of each trial. Raises Conflict where one is damaged."""
    tests: dict[tuple[int, int, int], Mapping[str, float]] = {}
    trainings: dict[int, list[dict[str, Any]]] = {}
    blocks: dict[int, list[Block]] = {}
    for row in rows:
        number, attributes = _checked(row)
        does = row.key.rpartition("/")[2].partition(":")[0]
        if does == TEST and "test" in attributes:
            tests[number, attributes["seed"], attributes["steps"]] = attributes["test"]
        elif does == BLOCK and "began" in attributes:
            blocks.setdefault(number, []).append(_block(attributes))
        elif does == TRAINING and "seed" in attributes:
            trainings.setdefault(number, []).append(attributes)
    return {
        number: Confirmation(
            number,
            tuple(_retraining(number, a, tests) for a in sorted(trainings.get(number, []), key=_length_and_seed)),
            tuple(sorted(blocks.get(number, []), key=lambda each: each.began)),
        )
        for number in sorted({*trainings, *blocks})
    }


def _length_and_seed(attributes: Mapping[str, Any]) -> tuple[int, int]:
    return attributes["steps"], attributes["seed"]


def _checked(row: Any) -> Stored:
    place = f"job {row.job_id}"
    attributes = checked.confirmation(checked.read(row.attributes or "{}", place, "attributes"), place)
    number = row.parent
    if not isinstance(number, int) or not 0 <= number < checked.MOST_TRIALS:
        checked.damaged(place, "parent", number, "the number of a trial")
    return number, attributes


def _retraining(
    number: int, attributes: Mapping[str, Any], tests: Mapping[tuple[int, int, int], Mapping[str, float]]
) -> Retraining:
    seed, steps, reason = attributes["seed"], attributes["steps"], attributes.get("reason", "")
    return Retraining(
        seed=seed,
        steps=steps,
        metrics={} if reason else attributes.get("metrics", {}),
        test=tests.get((number, seed, steps), {}),
        reason=reason,
        rungs=rungs_of(attributes),
    )


def _block(attributes: Mapping[str, Any]) -> Block:
    told = attributes.get("measurement", {})
    return Block(attributes["began"], attributes["metrics"], attributes["hardware"], told)
