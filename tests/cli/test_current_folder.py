"""A current folder that is gone, and folders that may not be entered: told in one sentence, never an internal error."""

import os

import pytest


@pytest.fixture
def gone(nas, tmp_path, monkeypatch):
    """`nas` in a folder that was deleted, and stays the current one."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    return nas


@pytest.mark.parametrize("command", [("list",), ("status", "demo"), ("front", "demo"), ("show", "demo", 0)])
def test_reading_commands_work_in_a_deleted_folder(gone, command):
    ran = gone(*command)
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize("command", [("list",), ("status", "demo"), ("front", "demo"), ("init",), ("init", "a/b.toml")])
def test_a_deleted_folder_is_told_where_its_files_are_asked_for(gone, monkeypatch, command):
    monkeypatch.delenv("NAS_RUNS")
    ran = gone(*command)
    assert ran.code == 0 if command == ("list",) else ran.code in (2, 5)
    assert "error[internal]" not in ran.err


@pytest.mark.parametrize("command", [("list",), ("status", "demo"), ("front", "demo"), ("show", "demo", 0)])
@pytest.mark.parametrize("closed", ["runs", "runs/demo"])
@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may enter every folder")
def test_a_folder_that_may_not_be_entered_is_told(nas, runs, tmp_path, command, closed):
    folder = tmp_path / closed
    folder.chmod(0)
    try:
        ran = nas(*command)
    finally:
        folder.chmod(0o755)
    assert ran.code == 0 if command == ("list",) else ran.code in (2, 5)
    assert "error[internal]" not in ran.err
