"""The processes of a library that are watched and ended, and those of the program that uses nas, which are not."""

import subprocess
import sys

import psutil
import pytest

from nas.running.helper_processes import HelperProcesses

SLEEPER = "import time; time.sleep(600)"


@pytest.fixture
def start(tmp_path):
    """Start a child whose program lies in that folder; it ends with the test."""
    children = []

    def started(folder: str) -> subprocess.Popen:
        program = tmp_path / folder / "program.py"
        program.parent.mkdir(exist_ok=True)
        program.write_text(SLEEPER)
        children.append(subprocess.Popen([sys.executable, str(program)]))
        return children[-1]

    yield started
    for child in children:
        child.kill()
        child.wait()


def test_only_the_librarys_own_processes_are_ended(tmp_path, start):
    """A program may start children of its own from another thread, just while the library starts."""
    helpers = HelperProcesses(tmp_path / "library")
    earlier = start("library")
    with helpers:
        theirs, own, alike = start("library"), start("program"), start("library_of_others")
    helpers.end(10)
    assert not psutil.pid_exists(theirs.pid)
    assert [child.poll() for child in (earlier, own, alike)] == [None, None, None]


def test_a_process_of_the_library_that_died_is_told_by_its_name(tmp_path, start):
    helpers = HelperProcesses(tmp_path / "library")
    with helpers:
        theirs = start("library")
    name = next(iter(helpers._children.values()))
    assert helpers.first_dead(name) == ""
    theirs.kill()
    theirs.wait()
    assert helpers.first_dead(name) == name
