"""A good guest: using nas changes nothing of the program that uses it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("global_state.py")


@pytest.mark.slow
@pytest.mark.waits
@pytest.mark.parametrize("executor", ["serial", pytest.param("ray", marks=pytest.mark.soak)])
def test_no_use_of_nas_leaves_a_trace_in_the_program(file, executor):
    command = [sys.executable, PROGRAM, file, executor]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)  # standard output holds nothing else
    assert {name: changes for name, changes in told.items() if changes} == {}
    assert ran.stderr == ""
