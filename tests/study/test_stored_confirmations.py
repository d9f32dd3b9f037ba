"""Confirmations as they are stored, and read again; the same on SQLite and PostgreSQL."""

import json

import pytest
import sqlalchemy as sql
from optuna.trial import TrialState

from nas.confirmation import Block, Confirmation, Retraining
from nas.errors import Conflict
from nas.rungs import Rung
from nas.study.job_answers import NewJob
from nas.study.job_tables import JOBS, Kind, job_key
from nas.study.store import Store
from nas.study.stored_confirmations import confirmed as stored_in
from tests.study.shared_study import NAME, begun, told

RUNG = {"step": 10, "seconds": 1.5, "metrics": {"val_loss": 2.0}}
SEED = {"seed": 7, "steps": 20}


def stored(study):
    return stored_in(Store.open(study.database(), NAME)).results


def confirmed(driver, again, attributes, state=TrialState.COMPLETE):
    job = NewJob(job_key("a", None, Kind.CONFIRMATION, again), {}, Kind.CONFIRMATION, parent=0)
    driver.enqueue(job)
    lease = driver.acquire(again, kinds=(Kind.CONFIRMATION,))
    driver.tell(lease, state, None, trained=state is TrialState.COMPLETE, attributes=attributes)


def test_a_study_without_confirmations_has_none(study):
    assert stored(study) == {}
    driver = study.driver()
    told(driver, begun(driver, "a"))
    assert stored(study) == {}


def test_trainings_tests_and_blocks_are_read_as_one_confirmation(study):
    driver = study.driver()
    told(driver, begun(driver, "a"))
    block = {"began": 100.0, "hardware": "here", "metrics": {"decode_ms_per_token": 0.5}}
    confirmed(driver, "block:1@here", block | {"began": 200.0})
    confirmed(driver, "seed:9", {"seed": 9, "steps": 20, "reason": "nan", "detail": "no number"}, TrialState.FAIL)
    confirmed(driver, "seed:7", SEED | {"metrics": {"val_loss": 1.0}, "rungs": [RUNG]})
    confirmed(driver, "block:0@here", block)
    confirmed(driver, "test:7", SEED | {"test": {"test_loss": 1.1}})
    driver.enqueue(NewJob("a/confirmation/0/seed:8", {"seed": 8, "steps": 20}, Kind.CONFIRMATION, parent=0))
    rung = Rung(10, 1.5, {"val_loss": 2.0})
    trained = Retraining(7, 20, {"val_loss": 1.0}, {"test_loss": 1.1}, rungs=(rung,))
    failed = Retraining(9, 20, {}, reason="nan")
    times = {"decode_ms_per_token": 0.5}
    blocks = (Block(100.0, times, "here"), Block(200.0, times, "here"))
    assert stored(study) == {0: Confirmation(0, (trained, failed), blocks)}
    found = stored_in(Store.open(study.database(), NAME))
    assert found.begun == {(0, "seed:8")}
    assert found.ended == {(0, again) for again in ("seed:7", "seed:9", "block:0@here", "block:1@here", "test:7")}
    assert failed.failed
    assert not trained.failed


def test_trainings_of_other_lengths_and_blocks_of_other_hardware_are_told_apart():
    lengths = tuple(Retraining(1, steps, {"val_loss": 1.0}) for steps in (20, 40))
    blocks = tuple(Block(float(i), {"prefill_ms": 1.0}, hardware) for i, hardware in enumerate(("here", "there")))
    found = Confirmation(3, lengths, blocks)
    assert found.of_steps(40) == lengths[1:]
    assert found.on_hardware("here") == blocks[:1]


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"seed": -1, "steps": 3}, "seed"),
        ({"seed": 1}, "steps"),
        ({"test": {"test_loss": 1.0}}, "seed"),
        ({"seed": 1, "steps": 3, "metrics": {"val_loss": "low"}}, "metrics.val_loss"),
        ({"began": 1.0, "metrics": {}}, "hardware"),
        ({"began": "yesterday", "metrics": {}, "hardware": "x"}, "began"),
        ([], "value"),
        ({"seed": 1, "steps": 3, "rungs": [{"step": 3}]}, "rungs"),
    ],
)
def test_damaged_confirmations_are_refused_with_their_place(sqlite_study, attributes, named):
    driver = sqlite_study.driver()
    told(driver, begun(driver, "a"))
    confirmed(driver, "seed:7", SEED | {"metrics": {"val_loss": 1.0}})
    change = sql.update(JOBS).where(JOBS.c.kind == Kind.CONFIRMATION).values(attributes=json.dumps(attributes))
    sqlite_study.write(change)
    with pytest.raises(Conflict, match=named) as raised:
        stored(sqlite_study)
    assert raised.value.where == "job 2"
