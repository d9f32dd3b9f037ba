"""A checkpoint that is cut off: each command that would continue from it says that training starts again."""

import json
import signal
from pathlib import Path

import pytest

from nas.measurement import TimedMetrics
from nas.running import measuring
from nas.study import open_study
from nas.training import training_folder

pytestmark = pytest.mark.slow
SIZES = {"params": 100.0, "weights_mib": 0.5, "contended": 0.0}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def checkpoint(folder: Path) -> Path:
    (path,) = (folder / "runs" / "demo" / "trials" / "0").iterdir()
    return path


@pytest.fixture
def begun(nas, settings, tmp_path, monkeypatch, signal_at_step):
    """A study file whose only trial was interrupted, and whose checkpoint was cut off then."""
    monkeypatch.setattr(measuring, "_measure", lambda *arguments: TimedMetrics(SIZES))
    monkeypatch.setattr(measuring, "_count", lambda *arguments: {})
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "runs"))
    file = tmp_path / "exact.toml"
    file.write_text(settings.to_toml().replace('metric = "decode_ms_per_token"', 'metric = "params"'))
    signal_at_step(4, signal.SIGTERM)
    ran = nas("search", file, "--executor", "serial", "--trials", 1, "--no-progress")
    assert ran.code == 143
    cut(checkpoint(tmp_path))
    return file


@pytest.mark.parametrize("command", ["search", "resume"])
def test_a_search_tells_that_the_training_starts_again(nas, begun, tmp_path, command):
    path = checkpoint(tmp_path)
    ran = nas(command, begun if command == "search" else "demo", "--executor", "serial", "--no-progress")
    assert ran.code == 0, ran.err
    (told,) = [line for line in ran.err.splitlines() if "starts again" in line]
    assert told.startswith(f"trial 0: training starts again: {path} ")
    assert open_study("demo").trial(0).trained


def test_json_tells_that_the_training_starts_again(nas, begun, tmp_path):
    path = checkpoint(tmp_path)
    ran = nas("resume", "demo", "--executor", "serial", "--json")
    assert ran.code == 0, ran.err
    (told,) = [event for event in map(json.loads, ran.out.splitlines()) if event["type"] == "restarted"]
    assert told["trial"] == 0
    assert str(path) in told["why"]


def test_a_training_tells_that_it_starts_again(nas, runs, tmp_path, signal_at_step):
    whole = Path(nas("train", "demo", 0, "--out", tmp_path / "whole").out.strip())
    signal_at_step(4, signal.SIGINT)
    assert nas("train", "demo", 0).code == 130
    (folder,) = (runs / "demo" / "trained").iterdir()
    cut(folder / training_folder.CHECKPOINT)
    ran = nas("train", "demo", 0)
    assert (ran.code, ran.out) == (0, f"{folder}\n")
    (told,) = [line for line in ran.err.splitlines() if "starts again" in line]
    assert told.startswith(f"Training starts again: {folder / training_folder.CHECKPOINT} ")
    assert "Continuing" not in ran.err
    losses = [json.loads((path / "metrics.json").read_text())["metrics"]["test_loss"] for path in (folder, whole)]
    assert losses[0] == losses[1]
