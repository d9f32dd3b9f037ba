"""Jobs that a driver asks for by their keys, as confirmations are; the same on SQLite and PostgreSQL."""

import pytest
from optuna.trial import TrialState

from nas.study.job_answers import Answer, Lost, NewJob, Origin
from nas.study.job_tables import STUDIES, Kind, Phase
from tests.study.shared_study import begun, told


def job(name):
    return NewJob(name, {"seed": 7, "steps": 20}, Kind.CONFIRMATION, parent=0)


A, B = job("a/confirmation/0/seed:7"), job("b/confirmation/0/seed:7")


@pytest.fixture
def pair(study):
    first, second = study.driver(budget=1), study.driver(budget=1)
    told(first, begun(first, "a"))
    return first, second


def end(driver, lease, state=TrialState.COMPLETE):
    return driver.tell(lease, state, None, trained=state is TrialState.COMPLETE, attributes={"metrics": {"x": 1.0}})


def test_the_first_job_that_can_run_is_begun_and_takes_no_budget(study, pair):
    first, second = pair
    lease = first.claim("n", [A, B], marks={"slot": 1})
    assert (lease.kind, lease.key, lease.parent, lease.number) == (Kind.CONFIRMATION, A.key, 0, None)
    assert (lease.attempt, lease.origin, lease.attributes["seed"]) == (1, Origin.NEW, 7)
    assert second.claim("m", [A, B]).key == B.key
    assert second.claim("k", [A, B]) is Answer.WAIT
    assert end(first, lease)
    assert second.claim("k", [A]) is Answer.END
    assert second.claim("k", []) is Answer.END
    assert study.table(STUDIES)[0]["trained"] == 1


def test_an_answer_that_was_lost_is_given_again(pair):
    first, _ = pair
    lease = first.claim("n", [A])
    assert first.claim("n", [B, A]).origin is Origin.AGAIN
    assert first.claim("n", [A]).job_id == lease.job_id


def test_a_job_that_was_put_back_goes_on_in_its_next_attempt(pair):
    first, second = pair
    lease = first.claim("n", [A])
    first.rung(lease, 10, "rung-10.a1.safetensors", {"rungs": [{"step": 10, "seconds": 1.0, "metrics": {}}]})
    first.release(lease)
    taken = second.claim("m", [A])
    assert (taken.attempt, taken.origin, taken.step) == (2, Origin.WAITING, 10)
    assert taken.checkpoint == "rung-10.a1.safetensors"
    with pytest.raises(Lost):
        end(first, lease)


def test_the_job_of_a_dead_driver_is_taken_over_and_that_of_a_living_one_is_not(study, pair):
    first, second = pair
    lease = first.claim("n", [A])
    assert second.claim("m", [A]) is Answer.WAIT
    first.grace, later = 60.0, study.driver(grace=0.0)
    taken = later.claim("k", [A])
    assert (taken.attempt, taken.origin) == (2, Origin.TAKEN_OVER)
    with pytest.raises(Lost):
        first.note(lease, {})
    assert end(later, taken, TrialState.FAIL)
    assert study.table()[-1]["phase"] == Phase.OTHER
    assert first.claim("l", [A]) is Answer.END
