"""A report's folder is replaced whole or left as it was."""

import shutil
from pathlib import Path

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
    (folder / "index.html").write_text('<meta charset="utf-8"><meta name="generator" content="nas">old')
    (folder / "pareto_of_a_dropped_objective.svg").write_text("old")
    written = report.write(record, folder)
    assert written == folder / "index.html"
    # Equal studies give equal reports, in another folder too.
    assert contents(folder) == contents(page.parent)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_report_of_version_0_1_is_replaced(record, tmp_path):
    """Such as the example that the repository keeps, whose page does not say who made it."""
    folder = shutil.copytree(Path(__file__).parents[2] / "reports" / "example", tmp_path / "example")
    old = (folder / "index.html").read_text(encoding="utf-8").replace('<meta name="generator" content="nas">', "")
    (folder / "index.html").write_text(old, encoding="utf-8")
    report.write(record, folder)
    assert record.name in (folder / "index.html").read_text(encoding="utf-8")
    assert (folder / "index.html").read_text(encoding="utf-8") != old


@pytest.mark.parametrize(
    "files",
    [("index.html", "data.csv"), ("index.html",), ("index.html", "trials.csv", "pareto_a.png"), ("trials.csv",)],
)
def test_a_page_of_somebody_else_is_no_report_whatever_the_names(record, tmp_path, files):
    folder = tmp_path / "site"
    folder.mkdir()
    for name in files:
        (folder / name).write_text("<title>mine · architecture search</title>")
    before = contents(folder)
    with pytest.raises(Conflict, match="something other than a report"):
        report.write(record, folder)
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["notes.csv", "holiday.png", "notes.html", ".hidden"])
def test_what_somebody_added_to_a_report_is_not_deleted(record, page, tmp_path, name):
    folder = shutil.copytree(page.parent, tmp_path / "report")
    (folder / name).write_text("mine")
    with pytest.raises(Conflict, match="something other than a report") as caught:
        report.write(record, folder)
    assert name in caught.value.detail
    assert (folder / name).read_text() == "mine"


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
    with pytest.raises(Conflict, match="something other than a report"):
        report.write(record, tmp_path)


def test_a_file_in_the_way_is_refused(record, tmp_path):
    (tmp_path / "report").write_text("mine")
    with pytest.raises(Conflict, match="a file stands"):
        report.write(record, tmp_path / "report")


def test_a_disk_that_refuses_is_told(record, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutOfReach, match="cannot be written"):
        report.write(record, tmp_path / "file" / "report")
