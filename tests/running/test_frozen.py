"""A driver that was frozen for longer than its lease, or could write no heartbeat for so long: nothing waits."""

import pytest

from nas.running.coordinator import Coordinator
from nas.study.leases import join
from nas.study.transactions import Database
from tests.running.aging import age
from tests.running.tables import Launcher, settings

GRACE = 30.0


@pytest.fixture
def launcher(tmp_path):
    return Launcher(tmp_path, settings("constraints.0.max=100", "search.skip=false", "search.stopping=false"))


def driver(launcher, budget=3, **options):
    leases = join(Database(launcher.url), "study", budget, grace=GRACE)
    return Coordinator(leases, launcher.file, **options)


def run(coordinator, body):
    while coordinator.report(body.job, body.step()):
        pass


def test_a_driver_that_wakes_up_finds_its_trial_at_another_and_changes_nothing(launcher):
    told = []
    frozen = driver(launcher, observer=told.append)
    body = launcher.body(frozen.next_job())
    assert frozen.report(body.job, body.step())
    assert frozen.report(body.job, body.step())
    age(launcher.database, 2 * GRACE, frozen.leases.driver.id)
    other = driver(launcher)
    taken = other.next_job()
    assert (taken.number, taken.attempt, [rung.step for rung in taken.rungs]) == (body.job.number, 2, [50])
    theirs = launcher.body(taken)
    assert other.report(taken, theirs.step())

    before = launcher.rows()
    assert not frozen.report(body.job, body.step())
    assert launcher.rows() == before
    assert (frozen.running, frozen.leases.late_writes) == ({}, 1)
    assert told[-1] == {"type": "released", "trial": taken.number}

    age(launcher.database, -2 * GRACE, frozen.leases.driver.id)  # its heartbeat is written again
    new = frozen.next_job()
    assert (new.number, new.attempt) == (1, 1)
    run(other, theirs)
    run(frozen, launcher.body(new))
    run(other, launcher.body(other.next_job()))
    assert [row.state.name for row in launcher.rows()] == ["COMPLETE"] * 3
    assert set(launcher.disk.trained.values()) == {1}
    assert frozen.next_job() is None
    assert frozen.end is not None


def test_a_driver_without_heartbeats_puts_its_trials_back_and_goes_on_when_they_are_written_again(launcher):
    silent = [False]
    coordinator = driver(launcher, budget=1, expired=lambda: silent[0])
    body = launcher.body(coordinator.next_job())
    assert coordinator.report(body.job, body.step())
    assert coordinator.report(body.job, body.step())
    silent[0] = True
    assert not coordinator.report(body.job, body.step())
    assert launcher.rows()[0].state.name == "WAITING"
    assert coordinator.next_job() is None
    assert coordinator.end is None
    silent[0] = False
    again = coordinator.next_job()
    assert (again.number, again.attempt) == (body.job.number, 2)
    run(coordinator, launcher.body(again))
    assert [row.state.name for row in launcher.rows()] == ["COMPLETE"]
    assert set(launcher.disk.trained.values()) == {1}
