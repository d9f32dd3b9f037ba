"""Drivers in processes of their own, killed while they work: nothing is lost, repeated or left behind."""

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.waits]
SOUND = dict.fromkeys(("unfinished", "gaps", "duplicates", "told_twice", "lost", "half_told", "begun_twice"), 0) | {
    "errors": []
}


def run(url: str, trials: int, kills: int, *further: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.study.lease_kills", url, "--trials", str(trials), "--kills", str(kills)]
    ended = subprocess.run([*command, *further], capture_output=True, text=True, timeout=600, check=False)
    assert not ended.returncode, ended.stderr
    counted = json.loads(ended.stdout)
    assert counted | SOUND | {"trained": trials} == counted
    assert not [name for name in counted["retries"] if "Deadlock" in name]
    return counted


@pytest.mark.soak
def test_four_drivers_train_exactly_the_budget(study):
    run(study.url, 24, 0)


def test_ten_killed_drivers_lose_nothing(study):
    found = run(study.url, 36, 10)
    assert found["kills"] == 10
    assert found["taken_over"]


@pytest.mark.soak
def test_a_hundred_killed_and_twenty_frozen_drivers_lose_nothing(study):
    found = run(study.url, 1500, 100, "--freezes", "20")
    assert (found["kills"], found["frozen"]) == (100, 20)
    assert found["late_writes"]
