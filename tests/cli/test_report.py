"""`nas report`."""

import webbrowser
from pathlib import Path

import pytest

from nas import report as reports


@pytest.fixture(autouse=True)
def written(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The page itself has its own tests; here a placeholder is written."""
    folders = []

    def write(record, folder: Path) -> Path:
        folders.append(folder)
        folder.mkdir(parents=True)
        page = folder / "index.html"
        page.write_text(record.name)
        return page

    monkeypatch.setattr(reports, "write", write)
    return folders


def test_writes_under_reports_and_prints_the_path(nas):
    ran = nas("report", "demo")
    assert (ran.code, ran.out) == (0, "reports/demo/index.html\n")
    assert Path("reports/demo/index.html").read_text() == "demo"


def test_the_folder_can_be_chosen(nas, tmp_path, monkeypatch, written):
    monkeypatch.setenv("NAS_REPORTS", str(tmp_path / "elsewhere"))
    nas("report", "demo")
    nas("report", "demo", "--out", tmp_path / "here")
    assert written == [tmp_path / "elsewhere" / "demo", tmp_path / "here"]


def test_open_shows_it_in_the_browser(nas, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(webbrowser, "open", shown.append)
    nas("report", "demo", "--open")
    assert shown == [(tmp_path / "reports/demo/index.html").as_uri()]


def test_an_empty_folder_name_is_not_the_current_folder(nas, written):
    ran = nas("report", "demo", "--out", "")
    assert (ran.code, written) == (2, [])
    assert "--out is empty" in ran.err


def test_unknown_study(nas):
    assert nas("report", "none").code == 2
