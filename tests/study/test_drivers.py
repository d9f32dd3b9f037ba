"""Drivers register, live, are asked to stop, and are known to be dead."""

import os
import subprocess
import sys
import threading

import pytest

from nas.study import processes
from nas.study.drivers import Drivers, Heartbeat, StopRequest
from nas.study.job_tables import DRIVERS
from tests.study.shared_study import begun


def test_living_drivers_have_different_ordinals_and_a_dead_ones_is_free_again(study):
    drivers = Drivers(study.prepared())
    first, second = drivers.register(), drivers.register("a100")
    assert (first.ordinal, second.ordinal) == (0, 1)
    write(study, first.id, ended=1.0)
    assert [drivers.register().ordinal for _ in range(2)] == [0, 2]
    write(study, second.id, heartbeat=1.0)
    assert drivers.register().ordinal == 1


def test_a_driver_whose_process_was_killed_is_dead_at_once(study):
    drivers = Drivers(study.prepared())
    first = drivers.register()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        write(study, first.id, process=processes.identity(process.pid))
        assert drivers.register().ordinal == 1
        process.kill()
        process.wait()
    assert drivers.register().ordinal == 0
    assert [status.lives for status in drivers.all()].count(False) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is known of other processes")
def test_a_process_is_known_beyond_its_number():
    mine = processes.identity()
    where, pid, started = mine.rsplit(":", 2)
    assert pid == str(os.getpid())
    assert not processes.is_gone(mine)
    assert processes.is_gone(f"{where}:{pid}:{int(started) + 1}")
    assert not processes.is_gone(f"another boot:{pid}:{started}")
    for unknown in ("", "x", ":::", f"{where}:x:{started}", f"{where}:99999999999999999999:{started}"):
        assert not processes.is_gone(unknown)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        identity = processes.identity(process.pid)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert processes.is_gone(identity)  # ended, and not yet waited for


def test_a_request_to_stop_reaches_living_drivers_and_is_never_weakened(study):
    drivers = Drivers(study.prepared())
    first, second, left = drivers.register(), drivers.register(), drivers.register()
    write(study, left.id, ended=1.0)
    assert drivers.beat(first) is StopRequest.GO
    assert drivers.request_stop(StopRequest.NOW, first.id) == [first.id]
    assert drivers.request_stop(StopRequest.FINISH) == sorted([first.id, second.id])
    assert (drivers.beat(first), drivers.beat(second)) == (StopRequest.NOW, StopRequest.FINISH)
    assert drivers.request_stop(StopRequest.NOW, left.id) == []


def test_the_status_tells_who_runs_what(study):
    driver = study.driver()
    begun(driver, "a")
    begun(driver, "b")
    (status,) = Drivers(driver.jobs).all()
    assert (status.id, status.running, status.lives, status.ended) == (driver.driver.id, (0, 1), True, False)
    assert status.heartbeat_age < 60
    assert f"{status.host}:{status.pid}" == driver.driver.label
    driver.leave()
    (status,) = Drivers(driver.jobs).all()
    assert (status.running, status.lives, status.ended) == ((), False, True)


def test_a_heartbeat_brings_requests_and_says_when_jobs_may_be_lost(study):
    drivers = Drivers(study.prepared())
    driver = drivers.register()
    before = study.table(DRIVERS)[0]["heartbeat"]
    drivers.request_stop(StopRequest.FINISH)
    with Heartbeat(drivers, driver, seconds=0.01) as heartbeat:
        wait_for(lambda: heartbeat.stop is StopRequest.FINISH)
        assert not heartbeat.expired
    assert study.table(DRIVERS)[0]["heartbeat"] >= before
    drivers.grace = -1.0
    assert heartbeat.expired


def test_the_heartbeat_of_a_deleted_study_ends_its_driver(study, caplog):
    drivers = Drivers(study.prepared())
    driver = drivers.register()
    study.write(DRIVERS.delete())
    with Heartbeat(drivers, driver, seconds=0.01) as heartbeat:
        wait_for(lambda: heartbeat.stop is StopRequest.NOW)
    assert "deleted" in caplog.text


def write(study, driver: str, **values) -> None:
    change = DRIVERS.update().where(DRIVERS.c.driver == driver).values(values)
    study.write(change)


def wait_for(condition) -> None:
    for _ in range(3000):
        if condition():
            return
        threading.Event().wait(0.01)
    pytest.fail("it did not happen")
