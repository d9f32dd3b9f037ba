"""Whole searches with real trainings, killed in every way, with and without Ray: nothing is lost, or trained twice."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.study import postgres
from tests.study.test_driver_kills import NOTHING

pytestmark = [pytest.mark.soak, pytest.mark.waits, pytest.mark.timeout(3000)]


def run(kind: str, executors: str, trials: int, **kills: int) -> None:
    command = [sys.executable, "-m", "tests.study.command_kills", kind, "--trials", str(trials)]
    command += ["--executors", *executors.split(), *(f"--{what}={count}" for what, count in kills.items())]
    where = os.environ | {"TMPDIR": postgres.PLACE}  # as in test_driver_kills
    ended = subprocess.run(command, capture_output=True, text=True, timeout=3000, check=False, env=where)
    assert not ended.returncode, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    sys.stdout.write(ended.stdout + "\n")
    assert found | NOTHING | {"trained": trials, "gaps": False, "errors": []} == found
    assert found | kills | {"report": True, "begun_anew": 0, "out_of_reach": 0} == found
    assert found["continued"]


def test_killed_drivers_on_one_machine_go_on_from_their_rungs():
    run("sqlite", "serial serial", 16, driver=6, session=6)


def test_killed_drivers_and_workers_beside_a_serial_driver_on_one_machine():
    run("sqlite", "ray serial", 18, driver=4, worker=6, session=5)


def test_killed_drivers_and_workers_of_two_rays_on_one_server():
    run("postgresql", "ray ray", 20, driver=5, worker=5, session=5)
