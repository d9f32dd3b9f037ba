"""A current folder that is gone, and folders that may not be entered: told in one sentence, never an internal error."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.ordinary_user import ordinary_user

SPACE = Path(__file__).parents[2] / "search_spaces" / "tiny_lm.toml"
READING = [("list",), ("status", "demo"), ("front", "demo"), ("show", "demo", 0)]
LOADING = [
    ("search", SPACE),
    ("search", SPACE, "--dry-run"),
    ("resume", "demo"),
    ("check", SPACE),
    ("train", "demo", 0),
    ("generate", "demo", 0, "--prompt", "a"),
    ("doctor",),
    ("doctor", "--gpu"),
    ("bench", "attention"),
    ("bench", "driver"),
    ("bench", "latency"),
    ("bench", "recall"),
    ("bench", "samplers"),
    ("bench", "training"),
    ("bench", "threads"),
    ("bench", "recipes", SPACE),
    ("bench", "search", SPACE, "--minutes", 1, "--seeds", 1),
]
"""These commands load torch, which ends its process where the current folder is gone."""
GONE, CLOSED = "error[folder]: the current folder is gone", "error[folder]: permission denied"


@pytest.fixture
def gone(nas, tmp_path, monkeypatch):
    """`nas` in a folder that was deleted, and stays the current one."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    return nas


@pytest.mark.parametrize("command", READING)
def test_reading_commands_work_in_a_deleted_folder(gone, command):
    ran = gone(*command)
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize("command", [*READING, ("spaces",), ("init",), ("init", "a/b.toml")])
def test_a_deleted_folder_is_told_where_its_files_are_asked_for(gone, monkeypatch, command):
    monkeypatch.delenv("NAS_RUNS")
    ran = gone(*command)
    assert (ran.code, ran.err[: len(GONE)]) == (5, GONE)


def test_a_deleted_folder_is_told_where_the_report_belongs_in_it(gone):
    ran = gone("report", "demo")
    assert (ran.code, ran.err[: len(GONE)]) == (5, GONE)


def in_a_deleted_folder(tmp_path, code: str) -> str:
    """What the code prints in a new process, which must not load torch."""
    start = f"import os, sys\nos.chdir({str(tmp_path)!r})\nos.mkdir('gone')\nos.chdir('gone')\nos.rmdir('../gone')\n"
    end = "\nassert 'torch' not in sys.modules\n"
    ran = subprocess.run([sys.executable, "-c", start + code + end], capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


@pytest.mark.slow
def test_a_deleted_folder_is_told_before_torch_is_loaded(stored, tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_RUNS", str(stored))
    code = f"""
from contextlib import redirect_stderr
from nas.cli.__main__ import main
for command in {[tuple(map(str, command)) for command in LOADING]!r}:
    sys.argv = ["nas", *command]
    with redirect_stderr(sys.stdout):
        try:
            main()
        except SystemExit as ended:
            print("->", ended.code)
"""
    told = in_a_deleted_folder(tmp_path, code)
    assert told.count(GONE) == told.count("-> 5\n") == told.count("->") - told.count("-->") == len(LOADING)


@pytest.mark.slow
def test_python_is_told_of_a_deleted_folder_before_torch_is_loaded(stored, tmp_path):
    calls = {
        "search": f"nas.search({str(SPACE)!r})",
        "resume": "nas.resume('demo')",
        "check": f"nas.check({str(SPACE)!r})",
        "doctor": "nas.doctor()",
        "build": "nas.build",
        "load_model": f"nas.load_model({str(stored)!r})",
        "train": f"nas.open_study({str(stored / 'demo')!r}).train(0)",
        "model": f"nas.open_study({str(stored / 'demo')!r}).model(0)",
    }
    code = f"""
import nas
for name, call in {calls!r}.items():
    try:
        eval(call)
    except nas.OutOfReach as error:
        print(name, error.code, error.exit_code)
"""
    assert in_a_deleted_folder(tmp_path, code).splitlines() == [f"{name} folder 5" for name in calls]


@pytest.mark.parametrize("command", READING)
@pytest.mark.parametrize("closed", ["runs", "runs/demo"])
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_folder_that_may_not_be_entered_is_told(nas, runs, tmp_path, command, closed, mode):
    folder = tmp_path / closed
    folder.chmod(mode)
    try:
        with ordinary_user():
            ran = nas(*command)
    finally:
        folder.chmod(0o755)
    if command == ("list",) and closed == "runs/demo":  # it may be another user's
        assert (ran.code, ran.out) == (0, "")
    else:
        assert (ran.code, ran.err[: len(CLOSED)]) == (5, CLOSED)


@pytest.mark.parametrize("command", [*READING, ("spaces",), ("init",), ("search", SPACE, "--executor", "serial")])
def test_a_current_folder_that_may_not_be_entered_is_told(nas, tmp_path, monkeypatch, command):
    monkeypatch.delenv("NAS_RUNS")
    tmp_path.chmod(0o000)
    try:
        with ordinary_user():
            ran = nas(*command)
    finally:
        tmp_path.chmod(0o755)
    assert ran.code == 5
    assert "ermission denied" in ran.err


def test_an_absent_study_file_is_told_in_a_current_folder_that_may_not_be_entered(nas, tmp_path_factory, tmp_path):
    absent = tmp_path_factory.mktemp("elsewhere") / "none.toml"
    tmp_path.chmod(0o000)
    try:
        with ordinary_user():
            ran = nas("search", absent)
            doctor = nas("doctor")
    finally:
        tmp_path.chmod(0o755)
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error[invalid-study-file]: no such study file")
    assert "error[internal]" not in doctor.err
