"""What several tests of running a study share."""

import json

import pytest

from nas.measure.costs import Costs
from nas.measurement import TimedMetrics
from nas.running import measuring
from tests.running.tables import cheap


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    return f"task.corpus={json.dumps(str(path))}"


@pytest.fixture
def unmeasured(monkeypatch):
    """What training does not tell comes from formulas: the times, as in the tables, and the exact sizes."""

    def told(architecture, task, file, *arguments):
        exact = Costs(task.vocabulary, task.context, file.measure.batch, task.head).metrics(architecture)
        return TimedMetrics({**cheap(architecture), "prefill_ms": 1.0, "contended": 0.0, **exact})

    monkeypatch.setattr(measuring, "_measure", told)
    monkeypatch.setattr(measuring, "_count", lambda *arguments: {})
