"""Temporary folders of processes that end, live or were killed, and what is not ours."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nas import temporary_folders

PROGRAM = """
import sys, time
from nas import temporary_folders
print(temporary_folders.make("nas-trial-"), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(temporary_folders, "_root", [])
    return tmp_path


@pytest.fixture
def other():
    """Another process with a temporary folder, which ends when its input does."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().decode().strip())
        process.kill()


def test_a_process_that_ends_leaves_nothing(other, place):
    process, folder = other
    assert folder.is_dir()
    process.communicate()
    assert [*place.iterdir()] == []


def test_what_a_killed_process_left_is_deleted_by_the_next_and_that_of_a_living_one_stays(other, place):
    process, folder = other
    (folder / "weights").write_text("x")
    assert temporary_folders.sweep() == 0
    assert (folder / "weights").exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    mine = temporary_folders.make("nas-trial-")
    assert mine.is_dir()
    assert [path.name for path in place.iterdir()] == [mine.parent.name]


def test_what_is_not_ours_stays(place, tmp_path_factory):
    theirs = tmp_path_factory.mktemp("theirs")
    (theirs / "lock").touch()
    (place / "nas-temporary-link").symlink_to(theirs)
    (place / "nas-temporary-unlocked").mkdir()
    (place / "nas-temporary-linked").mkdir()
    (place / "nas-temporary-linked" / "lock").symlink_to(theirs / "lock")
    (place / "nas-temporary-file").touch()
    before = sorted(place.rglob("*"))
    assert temporary_folders.sweep() == 0
    assert sorted(place.rglob("*")) == before
    assert (theirs / "lock").exists()


def test_a_copy_of_the_process_has_a_folder_of_its_own(monkeypatch):
    mine = temporary_folders.make("a")
    monkeypatch.setattr(os, "getpid", lambda: 1)
    theirs = temporary_folders.make("b")
    assert theirs.parent != mine.parent
    assert mine.is_dir()
