"""A study of an earlier version gains its jobs at the next launch, each in the phase where its trial stands."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from optuna.trial import TrialState, create_trial

from nas.errors import Conflict
from nas.study.job_answers import Origin
from nas.study.job_changes import changes
from nas.study.job_preparation import is_prepared, prepare
from nas.study.job_tables import JOBS, METADATA, STUDIES, Phase
from nas.study.store import Store
from tests.study.shared_study import NAME, begun, new

RUNG = [{"step": 10, "seconds": 1.0, "metrics": {"val_loss": 2.5}}]
OLD = [
    (TrialState.COMPLETE, {"architecture_id": "a"}, "a", Phase.TRAINED),
    (TrialState.PRUNED, {"architecture_id": "b", "rungs": RUNG, "attempt": 2}, "b", Phase.TRAINED),
    (TrialState.PRUNED, {"architecture_id": "c", "reason": "skipped", "rungs": []}, "c", Phase.OTHER),
    (TrialState.FAIL, {"architecture_id": "d", "learning_rate": 0.1}, "d@0.1", Phase.OTHER),
    (TrialState.WAITING, {"architecture_id": "d", "learning_rate": 0.1, "retry_of": 3}, "d@0.1/trial/3", Phase.WAITING),
    (TrialState.RUNNING, {"architecture_id": "e", "rungs": RUNG, "attempt": 1}, "e", Phase.WAITING),
    (TrialState.PRUNED, {"architecture_id": "a", "reason": "duplicate"}, "a/trial/row-6", Phase.OTHER),
]


@pytest.fixture
def old(study):
    """A study with a trial of each kind, and no jobs."""
    store = Store.open(study.url, NAME)
    values = [[1.0, 2.0] if state is TrialState.COMPLETE else None for state, *_ in OLD]
    store.add_rows(
        [create_trial(state=row[0], user_attrs=row[1], values=told) for row, told in zip(OLD, values, strict=True)]
    )
    store.close()
    return study


def test_every_trial_of_an_old_study_gets_its_job(old):
    jobs = old.jobs
    assert not is_prepared(jobs)
    assert prepare(jobs, 9) == len(OLD)
    assert prepare(jobs, 5) == 0
    found = old.table()
    assert [(job["number"], job["key"], job["phase"]) for job in found] == [
        (number, *row[2:]) for number, row in enumerate(OLD)
    ]
    assert [job["attempt"] for job in found] == [row[1].get("attempt", 0) for row in OLD]
    (counts,) = old.table(STUDIES)
    assert (counts["budget"], counts["trained"]) == (9, 2)
    assert [trial.state for trial in old.trials()] == [
        TrialState.WAITING if state is TrialState.RUNNING else state for state, *_ in OLD
    ]


def test_an_old_study_goes_on(old):
    driver = old.driver()
    leases = [driver.acquire(nonce) for nonce in "12"]
    assert [(lease.number, lease.attempt, lease.step, lease.origin) for lease in leases] == [
        (4, 1, 0, Origin.WAITING),
        (5, 2, 10, Origin.WAITING),
    ]
    assert begun(driver, "new").number == 7


def test_trials_that_another_program_adds_are_adopted_at_the_next_launch_or_refused(study):
    driver = study.driver()
    begun(driver, "a")
    study.loaded().add_trial(create_trial(values=[1.0, 2.0], user_attrs={"architecture_id": "b"}))
    assert prepare(driver.jobs, 9) == 1
    assert [(job["number"], job["phase"]) for job in study.table()] == [(0, Phase.RUNNING), (1, Phase.TRAINED)]
    study.loaded().ask()
    with pytest.raises(Conflict, match="architecture_id") as caught:
        prepare(driver.jobs, 9)
    assert caught.value.where == "trial 2"
    assert len(study.table()) == 2


def test_jobs_whose_trials_version_0_1_has_run_since_are_brought_up_to_date(study):
    """It knows Optuna's tables alone: it finished trials, was killed in one, and has not come to another."""
    driver = study.driver()
    begun(driver, "e")
    for name in "abcd":
        driver.enqueue(new(name))
    assert study.driver().acquire("another's").number == 1
    storage, ids = study.storage, [trial._trial_id for trial in study.trials()]
    for number, attempt in ((1, 2), (2, 1), (3, 1)):
        storage.set_trial_user_attr(ids[number], "attempt", attempt)
        storage.set_trial_user_attr(ids[number], "rungs", RUNG)
        if number > 1:
            storage.set_trial_state_values(ids[number], TrialState.RUNNING)
    storage.set_trial_state_values(ids[1], TrialState.PRUNED)
    storage.set_trial_state_values(ids[2], TrialState.FAIL)
    before = study.table(STUDIES)[0]["version"]

    assert prepare(driver.jobs, 9) == 0
    stands = [(job["phase"], job["attempt"], job["step"]) for job in study.table()]
    runs, waits = (Phase.RUNNING, 1, 0), (Phase.WAITING, 0, 0)
    assert stands == [runs, (Phase.TRAINED, 2, 10), (Phase.OTHER, 1, 10), (Phase.WAITING, 1, 10), waits]
    states = [TrialState.RUNNING, TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING, TrialState.WAITING]
    assert [trial.state for trial in study.trials()] == states
    assert study.table(STUDIES)[0]["trained"] == 1
    assert {change.number for change in changes(driver.jobs, before).jobs} == {1, 2, 3}
    after = study.table()
    prepare(driver.jobs, 9)
    assert study.table() == after
    again = driver.acquire("next")
    assert (again.number, again.attempt, again.step) == (3, 2, 10)


def test_drivers_that_prepare_at_once_make_the_tables_once(study):
    start = threading.Barrier(3)
    assert not is_prepared(study.jobs)

    def run(_: int) -> int:
        start.wait(20)
        return prepare(study.jobs, 9)

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(run, range(3))) == [0, 0, 0]
    assert len(study.table(STUDIES)) == 1


def test_a_table_that_is_made_twice_at_once_is_found_the_second_time(study, monkeypatch):
    study.prepared()
    real, calls = METADATA.create_all, []

    def as_if_it_was_not_there(bind, tables, checkfirst=True):
        calls.append(None)
        real(bind, tables=tables, checkfirst=len(calls) > 1)

    monkeypatch.setattr(METADATA, "create_all", as_if_it_was_not_there)
    if study.url.startswith("sqlite"):
        pytest.skip("one writer at a time looks and makes the tables in one transaction")
    assert prepare(study.jobs, 9) == 0
    assert len(calls) == 2


def test_the_count_of_trained_trials_is_made_anew(study):
    driver = study.driver()
    driver.tell(begun(driver, "a"), TrialState.COMPLETE, [1.0, 2.0], trained=True)
    study.write(STUDIES.update().values(trained=50))
    prepare(driver.jobs, 9)
    assert study.table(STUDIES)[0]["trained"] == 1


def test_a_waiting_job_of_no_trial_is_not_touched(study):
    driver = study.driver()
    driver.enqueue(new("a"))
    prepare(driver.jobs, 9)
    assert [job["phase"] for job in study.table(JOBS)] == [Phase.WAITING]
