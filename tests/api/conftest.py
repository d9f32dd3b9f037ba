"""A study file whose objectives are all exact, so that nothing waits for a quiet machine."""

import shutil
from pathlib import Path

import pytest

import nas
from nas.api import checking
from nas.api.checking import parameters
from nas.architecture import Architecture
from nas.measurement import TimedMetrics
from nas.running import measuring
from nas.tasks import Task

TEXT = "".join(f"the quick brown fox number {n} jumps over the lazy dog; " for n in range(60))

STUDY = """
name = "exact"
task = { corpus = "fox.txt", context = 8 }
train = { steps = 4, batch = 4, rungs = [0.5, 1.0], evaluation_tokens = 64 }
objectives = [{ metric = "val_loss" }, { metric = "weights_mib" }]
constraints = [{ metric = "params", max = 20000 }]
search = { trials = 2, seed = 0 }
resources = { device = "cpu" }
baselines = [{ hidden = 16, depth = 1, attention = { kind = "softmax", heads = 2 } }]
[space]
depth = [1, 2]
hidden = [16, 24]
attention = [{ kind = "softmax", heads = [2, 4] }, { kind = "linear", heads = [2, 4] }]
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`exact.toml` in the current folder, with `runs` and `reports` beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("NAS_REPORTS", str(tmp_path / "reports"))
    (tmp_path / "fox.txt").write_text(TEXT, encoding="utf-8")
    path = tmp_path / "exact.toml"
    path.write_text(STUDY, encoding="utf-8")
    return path


def sizes(architecture: Architecture, task: Task, *_: object) -> TimedMetrics:
    """The exact metrics alone; measuring latencies takes a second each, and longer on a busy machine."""
    params = parameters(architecture, task)
    return TimedMetrics({"params": float(params), "weights_mib": params * 4 / 2**20, "contended": 0.0})


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No latency is measured in this process."""
    monkeypatch.setattr(measuring, "_measure", sizes)
    monkeypatch.setattr(measuring, "_count", lambda *arguments: {})
    monkeypatch.setattr(checking, "TIMED_SECONDS", 0.0)


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `exact.toml` and its finished study under `runs`. To be read only."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "fox.txt").write_text(TEXT, encoding="utf-8")
    (folder / "exact.toml").write_text(STUDY, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("NAS_RUNS", str(folder / "runs"))
        patch.setattr(measuring, "_measure", sizes)
        patch.setattr(measuring, "_count", lambda *arguments: {})
        nas.search("exact.toml", executor="serial")
    return folder


@pytest.fixture
def study(file: Path, searched: Path) -> nas.Study:
    """A copy of that study, to be written to."""
    shutil.copytree(searched / "runs", file.parent / "runs")
    return nas.open_study("exact")
