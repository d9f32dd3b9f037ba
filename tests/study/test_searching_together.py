"""Drivers that share a study, with their samplers and stopping rules, in processes of their own."""

import json
import subprocess
import sys
from typing import Any

import pytest

from nas.running.budget import End

pytestmark = [pytest.mark.slow, pytest.mark.waits]


def searched(url: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.study.searching_together", url, *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert not ended.returncode, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    assert not any(found["codes"]), ended.stderr
    return found


@pytest.mark.parametrize(
    "drivers",
    [pytest.param(2, marks=pytest.mark.soak), 3],
    ids=["two", "three, of which one is killed and one comes later"],
)
def test_drivers_together_train_exactly_the_budget_and_know_the_same(study, drivers):
    found = searched(study.url, "--trials", "24", "--drivers", str(drivers))
    assert (found["trained"], found["duplicates"], found["gaps"]) == (24, 0, False)
    assert set(found["states"]) <= {"COMPLETE", "PRUNED"}
    assert all(count > 0 for count in found["by_driver"]), found["by_driver"]
    for driver in found["drivers"]:
        assert driver["end"] == End.BUDGET
        assert (driver["sampler differs"], driver["stopping rule differs"]) == ([], [])
        assert driver["rows"] == sum(found["states"].values())
        assert driver["late_writes"] == 0
