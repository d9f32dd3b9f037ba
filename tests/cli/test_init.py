"""`nas init`."""

from pathlib import Path

import pytest

from nas.settings import study_file
from nas.settings.task_settings import TASK_KINDS
from nas.space.architecture_space import Space


def test_writes_a_file_that_loads(nas):
    ran = nas("init")
    assert (ran.code, ran.out) == (0, "study.toml\n")
    assert study_file.load("study.toml").name == "study"
    assert "nas search study.toml" in ran.err
    assert [path.name for path in Path().iterdir()] == ["study.toml"]


def test_the_study_is_named_after_the_file(nas):
    nas("init", "my first.toml")
    assert study_file.load("my first.toml").name == "my_first"


def test_brackets_are_no_markup(nas):
    ran = nas("init", "[red]/[/b].toml")
    assert (ran.code, ran.out) == (0, "[red]/[/b].toml\n")
    assert "nas check [red]/[/b].toml" in ran.err


def test_an_existing_file_stays(nas):
    Path("study.toml").write_text("mine")
    ran = nas("init")
    assert (ran.code, ran.out) == (4, "")
    assert "error[file-exists]" in ran.err
    assert Path("study.toml").read_text() == "mine"


def test_a_folder_that_is_not_there_is_made(nas):
    assert nas("init", "new/study.toml").code == 0
    assert Path("new/study.toml").exists()


def test_a_place_that_cannot_be_written(nas):
    Path("file").write_text("in the way")
    ran = nas("init", "file/study.toml")
    assert ran.code == 5
    assert "file/study.toml" in ran.err


@pytest.mark.parametrize("task", TASK_KINDS)
def test_every_task_has_a_file_to_start_from(nas, task):
    assert nas("init", f"{task}.toml", "--task", task).code == 0
    file = study_file.load(f"{task}.toml")
    assert (file.name, file.task.kind) == (task, task)
    assert Space(file.spaces()).size() > 20
    text = Path(f"{task}.toml").read_text()
    assert not any(word in text for word in ("KIND", "TASK", "COLUMNS", "CORPUS", "METRIC", "TIME", "STEPS"))


def test_an_unknown_task_is_told_the_nearest_and_writes_nothing(nas):
    ran = nas("init", "--task", "translatoin")
    assert ran.code == 2
    assert "did you mean 'translation'?" in ran.err
    assert not Path("study.toml").exists()
