"""The contract of leases, the same on SQLite and PostgreSQL."""

import optuna
import pytest
from optuna.trial import TrialState

from nas.errors import Conflict
from nas.study.drivers import Drivers
from nas.study.job_answers import Answer, Lost, NewJob, Origin
from nas.study.job_preparation import is_prepared, prepare
from nas.study.job_tables import DRIVERS, STUDIES, Kind, Phase, job_key
from nas.study.leases import Leases
from nas.study.store import Store
from nas.study.study_jobs import StudyJobs
from tests.study.shared_study import OBJECTIVES, begun, new, told


def test_a_trial_is_proposed_run_and_told_and_optuna_reads_it(study):
    driver = study.driver()
    assert driver.acquire("first") is Answer.PROPOSE
    lease = driver.acquire("first", new("a"), marks={"slot": 2})
    assert (lease.number, lease.attempt, lease.origin) == (0, 1, Origin.NEW)
    driver.note(lease, {"metrics": {"params": 3.0}}, hardware="a100")
    driver.rung(lease, 10, "rung-10.a1.safetensors", {"rungs": [{"step": 10, "seconds": 1.0, "metrics": {}}]})
    assert told(driver, lease, attributes={"metrics": {"params": 4.0}}, violations={"params": -0.5})
    (trial,) = study.loaded().get_trials()
    assert study.trials() == [trial]
    assert (trial.state, trial.values, trial.constraints) == (TrialState.COMPLETE, [2.0, 3.0], {"params": -0.5})
    assert (trial.params, trial.user_attrs["metrics"]) == ({"x": 97}, {"params": 4.0})
    assert (trial.user_attrs["slot"], trial.user_attrs["attempt"]) == (2, 1)
    assert trial.user_attrs["owner"] == driver.driver.label
    assert trial.datetime_start <= trial.datetime_complete
    (job,) = study.table()
    assert (job["phase"], job["step"], job["checkpoint"]) == (Phase.TRAINED, 10, "rung-10.a1.safetensors")
    assert job["hardware"] == "a100"


def test_waiting_jobs_come_before_proposals_and_in_order(study):
    driver = study.driver()
    assert driver.enqueue(new("a")) == (0, True)
    assert driver.enqueue(new("b")) == (1, True)
    assert driver.enqueue(new("a")) == (0, False)
    assert [trial.state for trial in study.trials()] == [TrialState.WAITING] * 2
    leases = [driver.acquire(nonce, new("c")) for nonce in "123"]
    assert [(lease.number, lease.origin) for lease in leases] == [
        (0, Origin.WAITING),
        (1, Origin.WAITING),
        (2, Origin.NEW),
    ]
    assert [trial.state for trial in study.trials()] == [TrialState.RUNNING] * 3


def test_the_budget_counts_what_runs_and_holds_for_all_drivers(study):
    first, second = study.driver(budget=2), study.driver(budget=50)
    a, b = begun(first, "a"), begun(second, "b")
    assert second.acquire("more", new("c")) is Answer.WAIT
    told(first, a)
    assert first.acquire("more", new("c")) is Answer.WAIT
    told(second, b, TrialState.FAIL)
    c = begun(second, "c")
    told(second, c)
    assert first.acquire("more", new("d")) is Answer.END
    assert (first.set_budget(3), second.set_budget(1)) == (3, 3)
    assert second.acquire("more") is Answer.PROPOSE
    assert study.loaded().user_attrs["budget"] == 3


def test_two_drivers_never_have_one_architecture(study):
    first, second = study.driver(), study.driver()
    begun(first, "a")
    assert second.acquire("n", new("a")) is Answer.DUPLICATE
    assert second.enqueue(new("a")) == (0, False)
    assert len(study.trials()) == 1


def test_a_failed_trial_is_tried_again_under_a_key_of_its_own_by_one_driver(study):
    first, second = study.driver(), study.driver()
    told(first, begun(first, "a"), TrialState.FAIL)
    again = NewJob(job_key("a", None, again="0"), {"architecture_id": "a", "retry_of": 0})
    assert [driver.enqueue(again) for driver in (first, second)] == [(1, True), (1, False)]


def test_a_request_that_is_repeated_gets_the_same_lease(study):
    driver = study.driver()
    lease = begun(driver, "a")
    again = driver.acquire("nonce of a", new("a"))
    assert (again.number, again.attempt, again.origin) == (0, 1, Origin.AGAIN)
    assert again.attributes == lease.attributes
    assert driver.acquire("another") is Answer.PROPOSE


def test_what_is_told_twice_stays_as_it_was_first_told(study):
    driver = study.driver()
    lease = begun(driver, "a")
    assert told(driver, lease)
    assert not driver.tell(lease, TrialState.FAIL, None, trained=False, attributes={"reason": "nan"})
    with pytest.raises(Lost):
        driver.note(lease, {"metrics": {}})
    (trial,) = study.trials()
    assert (trial.state, trial.values, "reason" in trial.user_attrs) == (TrialState.COMPLETE, [2.0, 3.0], False)
    assert study.table(STUDIES)[0]["trained"] == 1


def test_a_released_trial_runs_again_from_its_checkpoint(study):
    driver = study.driver()
    lease = begun(driver, "a")
    driver.rung(lease, 10, "rung-10.a1", {})
    assert driver.release(lease)
    assert not driver.release(lease)
    assert study.trials()[0].state is TrialState.WAITING
    again = driver.acquire("next")
    assert (again.number, again.attempt, again.checkpoint, again.step) == (0, 2, "rung-10.a1", 10)
    (first_begin, first_end), (second_begin, second_end) = again.attributes["attempts"]
    assert first_begin <= first_end <= second_begin
    assert second_end is None


def test_a_dead_drivers_job_is_taken_over_and_its_late_writes_are_refused(study):
    slow, other = study.driver(), study.driver(grace=0.0)
    lease = begun(slow, "a")
    slow.rung(lease, 10, "rung-10.a1", {"rungs": []})
    taken = other.acquire("n")
    assert (taken.number, taken.attempt, taken.origin) == (0, 2, Origin.TAKEN_OVER)
    assert (taken.checkpoint, taken.attributes["owner"]) == ("rung-10.a1", other.driver.label)
    for late in (
        lambda: slow.note(lease, {"slot": 9}),
        lambda: slow.rung(lease, 20, "rung-20.a1", {}),
        lambda: told(slow, lease),
    ):
        with pytest.raises(Lost, match="trial 0, attempt 1: a late write is refused"):
            late()
    assert not slow.release(lease)
    assert slow.late_writes == 4
    assert told(other, taken)
    assert study.table()[0]["checkpoint"] == "rung-10.a1"
    assert "slot" not in study.trials()[0].user_attrs


def test_a_slow_driver_that_lives_keeps_its_job_and_one_that_comes_back_too_unless_it_was_taken(study):
    slow, other = study.driver(), study.driver()
    lease = begun(slow, "a")
    assert other.acquire("n") is Answer.PROPOSE
    assert told(slow, lease)


def test_a_driver_that_leaves_puts_its_jobs_back(study):
    first, second = study.driver(), study.driver()
    a, b = begun(first, "a"), begun(first, "b")
    told(first, b)
    first.leave()
    first.leave()
    assert [trial.state for trial in study.trials()] == [TrialState.WAITING, TrialState.COMPLETE]
    taken = second.acquire("n")
    assert (taken.number, taken.attempt, taken.origin) == (a.number, 2, Origin.WAITING)
    assert {row["driver"]: row["ended"] is None for row in study.table(DRIVERS)} == {
        first.driver.id: False,
        second.driver.id: True,
    }


def test_confirmations_and_forms_are_jobs_but_no_trials_and_take_no_budget(study):
    driver, other = study.driver(budget=1), study.driver(grace=0.0)
    both = (Kind.CONFIRMATION, Kind.FORM)
    told(driver, begun(driver, "a"))
    assert driver.acquire("n", new("b")) is Answer.END
    job = NewJob(job_key("a", None, Kind.CONFIRMATION, "7"), {"seed": 7}, Kind.CONFIRMATION, parent=0)
    job_id, made = driver.enqueue(job)
    assert made
    assert driver.enqueue(job) == (job_id, False)
    assert driver.acquire("n", new("b")) is Answer.END
    lease = driver.acquire("n", kinds=both)
    assert (lease.kind, lease.number, lease.parent, lease.attributes["seed"]) == (Kind.CONFIRMATION, None, 0, 7)
    driver.note(lease, {"metrics": {"val_loss": 1.0}})
    assert driver.acquire("m", kinds=both) is Answer.WAIT
    taken = other.acquire("m", kinds=(Kind.TRIAL, *both))
    assert (taken.attempt, taken.attributes["metrics"]) == (2, {"val_loss": 1.0})
    with pytest.raises(Lost, match="confirmation of trial 0, attempt 1"):
        told(driver, lease)
    assert told(other, taken, attributes={"metrics": {"val_loss": 2.0}})
    assert other.acquire("k", kinds=both) is Answer.END
    assert len(study.trials()) == 1
    assert study.table(STUDIES)[0]["trained"] == 1


def test_trials_that_optuna_adds_leave_no_gap_and_no_number_twice(study):
    driver, other = study.driver(), study.loaded()
    begun(driver, "a")
    assert [other.ask().number, other.ask().number] == [1, 2]
    assert begun(driver, "b").number == 3
    assert other.ask().number == 4
    assert driver.enqueue(new("c")) == (5, True)
    assert [trial.number for trial in study.trials()] == [*range(6)]


def test_a_deleted_study_takes_its_jobs_along_and_ends_its_drivers(study):
    driver = study.driver()
    lease = begun(driver, "a")
    optuna.delete_study(study_name="study", storage=study.storage)
    assert [study.table(table) for table in (STUDIES, DRIVERS)] == [[], []]
    assert study.table() == []
    for call in (lambda: driver.acquire("n"), lambda: driver.note(lease, {}), lambda: driver.set_budget(200)):
        with pytest.raises(Conflict, match="deleted"):
            call()


def test_reading_makes_no_tables(study):
    jobs = study.jobs
    assert not is_prepared(jobs)
    study.prepared()
    assert is_prepared(jobs)


def test_times_may_come_from_another_clock(study):
    jobs = study.prepared()
    now = [5.0]
    driver = Leases(jobs, study.driver().driver, clock=lambda: now[0])
    lease = begun(driver, "a")
    now[0] = 7.0
    driver.release(lease)
    assert driver.acquire("n").attributes["attempts"] == [[5.0, 7.0], [7.0, None]]


def test_studies_of_one_database_are_apart(study):
    Store.create(study.url, "another", OBJECTIVES).close()
    driver = study.driver(budget=1)
    told(driver, begun(driver, "a"))
    jobs = StudyJobs.of_name(study.database(), "another")
    prepare(jobs, 1)
    other = Leases(jobs, Drivers(jobs).register())
    lease = begun(other, "a")
    assert (lease.number, other.driver.ordinal) == (0, 0)
    assert driver.acquire("n") is Answer.END
    assert told(other, lease, TrialState.FAIL)
    assert [job["phase"] for job in study.table()] == [Phase.TRAINED, Phase.OTHER]


def test_a_study_that_is_not_there_is_a_conflict(study):
    with pytest.raises(Conflict, match="no study 'another'"):
        StudyJobs.of_name(study.database(), "another")
