"""A search with Ray under signals that reach more than its driver, and under the death of Ray itself."""

import os
import signal
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from nas.results import State
from nas.study import open_study
from tests.running.test_killed import kill_after_a_new_rung, launch, lost_nothing, rungs, search

pytestmark = [pytest.mark.slow, pytest.mark.waits]
MANY_STEPS = 100_000
"""No training ends by itself."""


def running(folder: Path) -> int:
    """Rows of running trials in the database, read beside the driver."""
    path = folder / "runs" / "study" / "study.db"
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            (count,) = connection.execute("select count(*) from trials where state = 'RUNNING'").fetchone()
        connection.close()
    except sqlite3.OperationalError:  # not made yet
        return 0
    return int(count)


def wait_for(driver: subprocess.Popen, happened) -> list[psutil.Process]:
    """All processes of the search once that has happened; the test's own time limit ends the wait."""
    while driver.poll() is None and not happened():
        time.sleep(0.05)
    main = psutil.Process(driver.pid)
    return [main, *main.children(recursive=True)]


def ended(driver: subprocess.Popen, folder: Path, processes: list[psutil.Process]) -> tuple[int, str]:
    """The exit code and what was said; no process is left, and no row runs."""
    code, said = driver.wait(60), (folder / "errors.txt").read_text()
    psutil.wait_procs(processes, timeout=10)
    left = [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert left == [], said
    states = {trial.state for trial in open_study(folder / "runs" / "study").trials()}
    assert states <= {State.WAITING, State.COMPLETE, State.PRUNED}, said
    return code, said


@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["", "killed before"])
def test_sigterm_to_the_whole_job_loses_nothing_whatever_other_clusters_there_are(tmp_path, killed):
    """One study: a driver is ended as by a batch system on a Ray cluster, the last finishes; the first dies alone."""
    theirs = Path(tempfile.gettempdir()) / "ray" / "ray_current_cluster"
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("10.255.255.1:6379")
    others = {"RAY_ADDRESS": "10.255.255.1:6379", "RAY_NAMESPACE": "theirs"}
    folder = str(tmp_path / "runs" / "study")
    driver = search(tmp_path, "ray", **others)
    if killed:
        kill_after_a_new_rung(tmp_path, driver, 0, whole_session=False)
        driver = launch(tmp_path, "resume", folder, "--executor", "ray", **others)
    known = rungs(tmp_path)
    processes = wait_for(driver, lambda: rungs(tmp_path) > max(known, 6))  # so that one trial at least has ended
    for process in processes:
        process.send_signal(signal.SIGTERM)
    code, said = ended(driver, tmp_path, processes)
    theirs.unlink()
    assert code == 143, said
    assert "Report: " in said
    assert (tmp_path / "reports" / "study" / "index.html").exists()
    driver = launch(tmp_path, "resume", folder, "--executor", "serial")
    assert driver.wait() == 0, (tmp_path / "errors.txt").read_text()
    lost_nothing(tmp_path)


def test_sighup_while_workers_start_puts_their_trials_back(tmp_path):
    driver = search(tmp_path, "ray", MANY_STEPS, 1)
    processes = wait_for(driver, lambda: running(tmp_path))
    os.killpg(driver.pid, signal.SIGHUP)
    code, said = ended(driver, tmp_path, processes)
    assert code == 128 + signal.SIGHUP, said
    assert "nas resume study" in said


def test_a_ray_that_dies_is_told_and_its_trials_are_put_back(tmp_path):
    driver = search(tmp_path, "ray", MANY_STEPS, 1)
    processes = wait_for(driver, lambda: running(tmp_path))
    next(process for process in processes if process.name() == "gcs_server").kill()
    code, said = ended(driver, tmp_path, processes)
    assert code == 5, said
    assert "error[ray]: Ray's process 'gcs_server' has ended" in said
