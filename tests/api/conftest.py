"""A study file whose objectives are all exact, so that nothing waits for a quiet machine."""

from pathlib import Path

import pytest

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
