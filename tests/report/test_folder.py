"""A report's folder is replaced whole or left as it was."""

import pytest

from nas import report
from nas.errors import Conflict, OutOfReach


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def broken(monkeypatch):
    """The last of the figures cannot be drawn."""

    def fail(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr("nas.report.plots.learning_curves", fail)


def test_a_failure_leaves_the_old_report_and_nothing_else(record, page, broken):
    before = contents(page.parent)
    with pytest.raises(RuntimeError, match="no ink"):
        report.write(record, page.parent)
    assert contents(page.parent) == before
    assert list(page.parent.parent.iterdir()) == [page.parent]


def test_a_failure_without_an_old_report_leaves_nothing(record, tmp_path, broken):
    with pytest.raises(RuntimeError, match="no ink"):
        report.write(record, tmp_path / "reports" / "new")
    assert list((tmp_path / "reports").iterdir()) == []


def test_a_new_report_takes_the_place_of_the_old_one(record, page, tmp_path):
    folder = tmp_path / "tiny_lm"
    folder.mkdir()
    (folder / "index.html").write_text("old")
    (folder / "pareto_of_a_dropped_objective.svg").write_text("old")
    written = report.write(record, folder)
    assert written == folder / "index.html"
    # Equal studies give equal reports, in another folder too.
    assert contents(folder) == contents(page.parent)
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("stranger", ["notes.md", "study.db", "thesis/"])
def test_a_folder_with_something_else_in_it_is_refused(record, tmp_path, stranger):
    path = tmp_path / stranger
    path.mkdir() if stranger.endswith("/") else path.write_text("mine")
    with pytest.raises(Conflict) as raised:
        report.write(record, tmp_path)
    assert stranger.rstrip("/") in raised.value.render()
    assert str(tmp_path) in raised.value.render()
    assert path.exists()


def test_pictures_without_a_report_are_refused_too(record, tmp_path):
    (tmp_path / "holiday.png").write_text("mine")
    with pytest.raises(Conflict, match="something else"):
        report.write(record, tmp_path)


def test_a_file_in_the_way_is_refused(record, tmp_path):
    (tmp_path / "report").write_text("mine")
    with pytest.raises(Conflict, match="a file stands"):
        report.write(record, tmp_path / "report")


def test_a_disk_that_refuses_is_told(record, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutOfReach, match="cannot be written"):
        report.write(record, tmp_path / "file" / "report")
