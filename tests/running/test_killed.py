"""Drivers killed with SIGKILL for real, in the middle of training, and resumed from the command line."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nas.results import State
from nas.study import open_study
from tests.running.test_driver import EXACT, TINY

pytestmark = [pytest.mark.slow, pytest.mark.waits, pytest.mark.soak]
TRIALS = 5
STUDY = Path(__file__).parents[2] / "search_spaces" / "tiny_lm.toml"


def launch(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen:
    environment = os.environ | variables | {"NAS_RUNS": str(folder / "runs"), "NAS_REPORTS": str(folder / "reports")}
    command = [sys.executable, "-m", "nas.cli", *arguments, "--no-progress"]
    with (folder / "errors.txt").open("a") as errors:
        return subprocess.Popen(
            command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=errors
        )


def search(folder: Path, executor: str, steps: int = 90, cpus: int = 2, **variables: str) -> subprocess.Popen:
    corpus = folder / "corpus.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    settings = [*TINY, *EXACT, f"search.trials={TRIALS}", f"task.corpus={corpus}", f"train.steps={steps}"]
    options = ["--cpus", str(cpus), *(part for setting in settings for part in ("-s", setting))]
    return launch(folder, "search", str(STUDY), "--study", "study", "--executor", executor, *options, **variables)


def rungs(folder: Path) -> int:
    """Rungs in the database, read beside the running driver."""
    path = folder / "runs" / "study" / "study.db"
    if not path.exists():
        return 0
    query = "select value_json from trial_user_attributes where key = 'rungs'"
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        found = sum(len(json.loads(text)) for (text,) in connection.execute(query))
        connection.close()
    except sqlite3.OperationalError:  # the tables are being made
        return 0
    return found


def kill_after_a_new_rung(folder: Path, driver: subprocess.Popen, known: int, whole_session: bool) -> None:
    while driver.poll() is None and rungs(folder) <= known:
        time.sleep(0.02)  # looking, until there is a rung; the test's own time limit ends it if there never is
    assert driver.poll() is None, (folder / "errors.txt").read_text()
    (os.killpg if whole_session else os.kill)(driver.pid, signal.SIGKILL)
    driver.wait()


def lost_nothing(folder: Path) -> None:
    trials = open_study(folder / "runs" / "study").trials()
    assert [trial.state for trial in trials if trial.trained] == [State.COMPLETE] * TRIALS
    assert all(trial.state in (State.COMPLETE, State.FAIL, State.PRUNED) for trial in trials)
    assert len({trial.architecture_id for trial in trials}) == len(trials)
    assert any(trial.attempt > 1 for trial in trials)


def test_a_killed_search_is_resumed_without_loss_or_repetition(tmp_path):
    driver = search(tmp_path, "serial")
    kill_after_a_new_rung(tmp_path, driver, 0, whole_session=True)
    driver = launch(tmp_path, "resume", str(tmp_path / "runs" / "study"), "--executor", "serial")
    assert driver.wait() == 0, (tmp_path / "errors.txt").read_text()
    lost_nothing(tmp_path)
