"""Whole drivers, killed, frozen and cut off from their database: nothing is lost, repeated, or left behind."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.study import postgres

pytestmark = [pytest.mark.slow, pytest.mark.waits]
NOTHING = dict.fromkeys(
    ("over_budget", "running", "waiting", "duplicates", "told_twice", "lost", "rungs_trained_again", "left_in_spool"), 0
)


def run(kind: str, trials: int, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.study.driver_kills", kind, "--trials", str(trials), *options]
    # A test's own temporary folder is closed to the user as whom the server runs.
    where = os.environ | {"TMPDIR": postgres.PLACE}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=3000, check=False, env=where)
    assert not ended.returncode, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    assert found | NOTHING | {"trained": trials, "gaps": False, "errors": []} == found
    assert found.get("connections_left", 0) == 0
    return found


def test_killed_drivers_on_one_machine_lose_nothing():
    assert run("sqlite", 30, "--kills", "5")["kills"] == 5


def test_killed_drivers_lose_nothing_while_their_server_dies():
    found = run("postgresql", 36, "--kills", "5", "--restarts", "3", "--double", "1", "--asleep", "0")
    assert (found["kills"], found["restarts"], found["double"]) == (5, 3, 1)


@pytest.mark.soak
def test_many_killed_and_frozen_drivers_on_one_machine_lose_nothing():
    found = run("sqlite", 400, "--kills", "70", "--freezes", "8")
    assert (found["kills"], found["freezes"]) == (70, 8)
    assert found["taken_over"]


@pytest.mark.soak
def test_many_killed_drivers_and_a_server_that_dies_or_hangs_lose_nothing():
    plan = {"kills": 70, "freezes": 8, "restarts": 12, "double": 8}
    options = (text for name, count in plan.items() for text in (f"--{name}", str(count)))
    found = run("postgresql", 500, *options, "--asleep", "30")
    assert found | plan == found


@pytest.mark.soak
def test_results_that_could_not_be_told_are_told_once():
    found = run("postgresql", 300, "--kills", "30", "--outages", "8", "--patience", "3")
    assert found["out_of_reach"] >= 8
    assert found["replayed"] <= found["kept"]


@pytest.mark.soak
@pytest.mark.timeout(4000)
def test_five_thousand_trials_outlive_a_server_that_restarts_every_now_and_then():
    found = run("postgresql", 5000, "--drivers", "4", "--every", "5", "40", "--pace", "0.001", "--asleep", "10")
    assert found["grown_mib"] < 50
    assert found["most_connections"] <= 4 * 3
