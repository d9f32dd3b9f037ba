"""Results that the database did not take: kept as files, told once, and refused where the trial is another's by now."""

import json
import shutil

import pytest
from optuna.trial import TrialState

from nas.errors import Conflict, OutOfReach
from nas.study.job_answers import Answer, Kept, Origin
from nas.study.job_changes import changes
from nas.study.job_tables import DRIVERS, Phase
from nas.study.leases import Leases
from nas.study.spool import Spool
from nas.study.spool_replay import tell_kept
from tests.study.shared_study import NAME, SharedStudy, begun, told


@pytest.fixture
def spool(tmp_path) -> Spool:
    return Spool(tmp_path / "folder", NAME, 2)


@pytest.fixture
def driver(study, spool) -> Leases:
    leases = study.driver()
    leases.spool = spool
    return leases


def kept(driver: Leases, lease, monkeypatch, state=TrialState.COMPLETE, **options) -> Kept:
    """Tells a result while the database does not answer."""

    def fail(body):
        raise OutOfReach("the study's database does not answer: gone")

    with monkeypatch.context() as patched:
        patched.setattr(driver.jobs.database, "write", fail)
        with pytest.raises(Kept) as caught:
            told(driver, lease, state, **options)
    return caught.value


def phases(study: SharedStudy) -> list[str]:
    return [row["phase"] for row in study.table()]


def test_a_result_is_kept_and_told_once(study, driver, spool, monkeypatch, tmp_path):
    lease = begun(driver, "a")
    error = kept(driver, lease, monkeypatch, attributes={"metrics": {"params": 4.0}}, violations={"params": -0.5})
    (path,) = spool.kept()
    assert str(path) in error.detail
    assert f"nas resume {NAME}" in error.help
    assert (error.exit_code, phases(study)) == (5, [Phase.RUNNING])
    copy = shutil.copyfile(path, tmp_path / "copy.json")

    assert tell_kept(spool, study.jobs) == 1
    (trial,) = study.trials()
    assert (trial.state, trial.values, trial.constraints) == (TrialState.COMPLETE, [2.0, 3.0], {"params": -0.5})
    assert trial.user_attrs["metrics"] == {"params": 4.0}
    assert (phases(study), spool.kept()) == ([Phase.TRAINED], [])
    assert not spool.folder.exists()

    spool.folder.mkdir(parents=True)  # killed after the database had it, and before the file was deleted
    shutil.copyfile(copy, path)
    before = study.table()
    assert tell_kept(spool, study.jobs) == 0
    assert (study.table(), spool.kept()) == (before, [])


def test_a_result_that_arrived_although_its_answer_was_lost_is_recognised(study, driver, spool, monkeypatch):
    lease = begun(driver, "a")
    write = driver.jobs.database.write

    def lose_the_answer(body):
        write(body)
        raise OutOfReach("gone")

    with monkeypatch.context() as patched:
        patched.setattr(driver.jobs.database, "write", lose_the_answer)
        with pytest.raises(Kept):
            told(driver, lease)
    assert tell_kept(spool, study.jobs) == 0
    assert (phases(study), spool.kept()) == ([Phase.TRAINED], [])


def test_a_trial_that_was_taken_over_keeps_the_later_result(study, driver, spool, monkeypatch):
    kept(driver, begun(driver, "a"), monkeypatch, TrialState.FAIL)
    study.write(DRIVERS.update().values(ended=1.0))
    other = study.driver()
    lease = other.acquire("other")
    assert (lease.origin, lease.attempt) == (Origin.TAKEN_OVER, 2)
    assert tell_kept(spool, study.jobs) == 0
    told(other, lease)
    assert [trial.state for trial in study.trials()] == [TrialState.COMPLETE]
    assert spool.kept() == []


def test_a_driver_that_leaves_puts_back_all_but_what_it_has_kept(study, driver, spool, monkeypatch):
    first, _ = begun(driver, "a"), begun(driver, "b")
    kept(driver, first, monkeypatch)
    driver.leave()
    assert phases(study) == [Phase.RUNNING, Phase.WAITING]
    assert tell_kept(spool, study.jobs) == 1
    assert phases(study) == [Phase.TRAINED, Phase.WAITING]


def test_it_counts_towards_the_budget(study, spool, monkeypatch):
    driver = study.driver(budget=1)
    driver.spool = spool
    kept(driver, begun(driver, "a"), monkeypatch)
    assert driver.acquire("more") is Answer.WAIT
    tell_kept(spool, study.jobs)
    assert driver.acquire("more") is Answer.END


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"study": "another"},
        {"attempt": "1"},
        {"values": [float("nan"), 1.0]},
        {"values": [1.0]},
        {"values": None},
        {"state": "RUNNING"},
        {"attributes": {"rungs": "all"}},
        {"further": 1},
        {"violations": {"params": "high"}},
    ],
    ids=str,
)
def test_a_file_that_holds_no_result_of_this_study_is_left_alone(sqlite_study, spool, monkeypatch, change):
    driver = sqlite_study.driver()
    driver.spool = spool
    kept(driver, begun(driver, "a"), monkeypatch)
    (path,) = spool.kept()
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    before = path.read_text()
    assert tell_kept(spool, sqlite_study.jobs) == 0
    assert (path.read_text(), phases(sqlite_study)) == (before, [Phase.RUNNING])


def test_what_no_job_of_the_study_is_cannot_be_told(sqlite_study, spool, monkeypatch):
    driver = sqlite_study.driver()
    driver.spool = spool
    kept(driver, begun(driver, "a"), monkeypatch)
    (path,) = spool.kept()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"job_id": 999}))
    assert tell_kept(spool, sqlite_study.jobs) == 0
    assert phases(sqlite_study) == [Phase.RUNNING]


def test_no_link_is_followed(sqlite_study, spool, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    spool.study_folder.mkdir()
    spool.folder.symlink_to(elsewhere)
    with pytest.raises(Conflict, match="symbolic link"):
        tell_kept(spool, sqlite_study.jobs)


def test_a_full_disk_says_so_too(sqlite_study, spool, monkeypatch):
    driver = sqlite_study.driver()
    driver.spool = spool
    lease = begun(driver, "a")
    spool.study_folder.write_text("no folder")

    def fail(body):
        raise OutOfReach("gone")

    monkeypatch.setattr(driver.jobs.database, "write", fail)
    with pytest.raises(OutOfReach):
        told(driver, lease)


def test_versions_of_changes_reach_the_other_drivers(study, driver, spool, monkeypatch):
    kept(driver, begun(driver, "a"), monkeypatch)
    (before,) = study.table()
    tell_kept(spool, study.jobs)
    found = changes(study.jobs, before["version"], besides=study.driver().driver.id)
    assert [(job.number, job.phase) for job in found.jobs] == [(0, Phase.TRAINED)]
    assert [row.state for row in found.rows] == [TrialState.COMPLETE]
