"""`--folder`: trials keep their files at a path or URL, which every command is told again, and no stranger chooses."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from nas import remote_files
from nas.measurement import TimedMetrics
from nas.running import measuring
from nas.study import open_study
from nas.study.run_folders import VARIABLE
from nas.study.store import Store, sqlite_url
from nas.trial_files import MARK

pytestmark = pytest.mark.slow
SIZES = {"params": 100.0, "weights_mib": 0.5, "contended": 0.0}
QUIET = ("--executor", "serial", "--no-progress")


@pytest.fixture(params=["path", "url"])
def place(request, tmp_path):
    """A shared folder, as a path and as a URL."""
    (tmp_path / "shared").mkdir()
    return str(tmp_path / "shared") if request.param == "path" else (tmp_path / "shared").as_uri()


@pytest.fixture
def file(settings, tmp_path, monkeypatch):
    """A study file whose measurements are exact and take no time."""
    monkeypatch.setattr(measuring, "_measure", lambda *arguments: TimedMetrics(SIZES))
    monkeypatch.setattr(measuring, "_count", lambda *arguments: {})
    monkeypatch.setattr(remote_files, "PAUSES", ())
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("NAS_REPORTS", str(tmp_path / "reports"))
    monkeypatch.delenv(VARIABLE, raising=False)
    path = tmp_path / "exact.toml"
    path.write_text(settings.to_toml().replace('metric = "decode_ms_per_token"', 'metric = "params"'))
    return path


@pytest.fixture
def begun(nas, file, place, signal_at_step):
    """A search with --folder, interrupted in its first trial."""
    signal_at_step(4, signal.SIGTERM)
    assert nas("search", file, *QUIET, "--trials", 1, "--folder", place).code == 143
    return place


def kept(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "shared" / "demo" / "trials" / "0").iterdir())


def test_a_search_goes_on_from_a_folder_and_every_command_finds_it(nas, begun, tmp_path, monkeypatch):
    assert [name.startswith("rung-") for name in kept(tmp_path)] == [True]
    assert json.loads(nas("status", "demo", "--json").out)["folder"] == begun
    assert begun in "".join(nas("status", "demo").out.split())
    assert not (tmp_path / "runs" / "demo" / "trials").exists()
    ran = nas("resume", "demo", *QUIET, "--folder", begun)
    assert ran.code == 0, ran.err
    assert "starts again" not in ran.err
    assert kept(tmp_path) == [
        "architecture.json",
        "attention_maps.json",
        "metrics.json",
        "model.safetensors",
        "vocabulary.json",
    ]
    assert not (tmp_path / "runs" / "demo" / "trials").exists()
    without = nas("generate", "demo", 0, "--prompt", "the ")
    assert (without.code, begun in without.err, "--folder" in without.err) == (2, True, True)
    told = nas("generate", "demo", 0, "--prompt", "the ", "--tokens", 5, "--folder", begun)
    assert (told.code, len(told.out)) == (0, len("the ") + 5 + 1), told.err
    monkeypatch.setenv(VARIABLE, begun)
    assert nas("generate", "demo", 0, "--prompt", "the ", "--tokens", 5).out == told.out
    assert open_study("demo").record_for_report().attention_maps.keys() == {0}
    models = json.loads(nas("show", "demo", 0, "--json").out)["models"]
    assert [model["folder"] for model in models] == [f"{begun}/demo/trials/0"]
    assert nas("resume", "demo", *QUIET).code == 0
    assert nas("fork", "demo", "copy").code == 0
    monkeypatch.delenv(VARIABLE)
    assert nas("generate", "copy", 0, "--prompt", "the ", "--tokens", 5).out == told.out
    assert nas("resume", "copy", *QUIET).code == 0
    assert nas("fork", "copy", "again", "--folder", begun).code == 0
    assert nas("generate", "again", 0, "--prompt", "the ", "--tokens", 5, "--folder", begun).out == told.out
    assert not (tmp_path / "runs" / "again" / "trials").exists()
    assert nas("resume", "again", *QUIET, "--folder", begun).code == 0
    shutil.move(tmp_path / "runs" / "again", tmp_path / "away")
    assert nas("fork", "copy", "again", "--folder", begun).code == 4  # the place is taken, and stays as it is
    shutil.move(tmp_path / "away", tmp_path / "runs" / "again")
    assert nas("generate", "again", 0, "--prompt", "the ", "--tokens", 5, "--folder", begun).out == told.out
    for name in ("demo", "again"):
        assert nas("delete", name, "--yes", "--folder", begun).code == 0
    assert [path for path in (tmp_path / "shared").rglob("*") if path.is_file()] == []


def test_a_stored_place_is_not_used_by_itself(nas, begun):
    ran = nas("resume", "demo", *QUIET)
    assert ran.code == 2
    assert f"nas resume demo --folder {begun}" in ran.err
    assert "no attention maps" in nas("report", "demo").err


def test_another_folder_is_a_conflict_and_the_same_one_elsewhere_is_none(nas, begun, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    ran = nas("resume", "demo", *QUIET, "--folder", other)
    assert ran.code == 4
    assert begun in ran.err
    assert list(other.iterdir()) == []
    (tmp_path / "shared").rename(tmp_path / "mounted")
    assert nas("resume", "demo", *QUIET, "--folder", tmp_path / "mounted").code == 0


def test_a_folder_that_is_not_mounted_is_out_of_reach(nas, begun, tmp_path):
    shutil.move(tmp_path / "shared", tmp_path / "away")
    (tmp_path / "shared").mkdir()
    ran = nas("resume", "demo", *QUIET, "--folder", begun)
    assert (ran.code, list((tmp_path / "shared").iterdir())) == (5, [])
    assert "mount" in ran.err or "answers" in ran.err


def test_the_folder_of_another_study_is_refused(nas, file, place, tmp_path):
    theirs = tmp_path / "shared" / "demo"
    theirs.mkdir()
    (theirs / MARK).write_text('{"study": "demo", "id": "theirs"}')
    ran = nas("search", file, *QUIET, "--folder", place)
    assert (ran.code, "belongs to another study" in ran.err) == (4, True)
    assert (theirs / MARK).read_text() == '{"study": "demo", "id": "theirs"}'


def test_a_study_of_this_machine_stays_here(nas, file, tmp_path, monkeypatch, signal_at_step):
    (tmp_path / "shared").mkdir()
    signal_at_step(4, signal.SIGTERM)
    assert nas("search", file, *QUIET, "--trials", 1).code == 143
    ran = nas("resume", "demo", *QUIET, "--folder", tmp_path / "shared")
    assert (ran.code, "leave --folder out" in ran.err) == (4, True)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "shared"))
    assert nas("resume", "demo", *QUIET).code == 0
    assert list((tmp_path / "shared").iterdir()) == []


@pytest.mark.parametrize(
    ("folder", "said"),
    [("nowhere", "there is no folder"), ("s3://me:hush@bucket/x", "no user, password"), ("", "is empty")],
)
def test_a_folder_that_cannot_be_is_refused_before_anything_is_stored(nas, file, tmp_path, folder, said):
    ran = nas("search", file, *QUIET, "--folder", folder)
    assert ran.code == 2
    assert said in ran.err
    assert "hush" not in ran.err
    assert "--folder" in ran.err


def test_a_strangers_place_is_shown_escaped_and_never_opened(nas, begun, tmp_path):
    """Their study names a folder of ours; without its mark nothing is read or written there."""
    private = tmp_path / "private"
    (private / "demo").mkdir(parents=True)
    (private / "demo" / "key").write_text("mine")
    store = Store.open(sqlite_url(tmp_path / "runs" / "demo"))
    store.set_attribute("folder", {"place": f"{private}\x1b[2J", "id": "x"})
    store.close()
    ran = nas("resume", "demo", *QUIET)
    assert (ran.code, "\x1b" in ran.err) == (2, False)
    assert nas("resume", "demo", *QUIET, "--folder", private).code in (4, 5)
    assert [path.name for path in (private / "demo").iterdir()] == ["key"]
