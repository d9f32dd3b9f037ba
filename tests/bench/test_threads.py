"""The benchmark of threads: rates over the time in which all trials trained, and a run of a fraction of a second."""

import pytest

from nas.bench import threads
from nas.bench.threads import WAYS, Settings, Share, compare, rate_between, step_marks
from nas.bench.training import exact_at
from nas.bench.training_restated import Shape
from nas.settings.task_settings import TextTask
from tests.documented import keys_of_json

SMALL = Shape(layers=1, heads=2, hidden=16, context=8, batch=2)


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    return str(path)


def test_whole_steps_within_the_common_time_count():
    marks = [0.0, 1.0, 2.0, 3.0, 4.0]
    assert rate_between(marks, 0.5, 3.5) == 1.0
    assert rate_between(marks, 3.5, 9.0) == 0.0


def test_a_training_stops_when_its_seconds_are_over(corpus):
    share = Share(0, WAYS["one_cpu"], exact_at(SMALL, 16), TextTask(corpus=corpus, context=8), 2, 0.05)
    marks = step_marks(share)
    assert marks == sorted(marks)
    assert marks[-1] - marks[0] > 0.05


def test_every_way_has_its_rate(corpus, monkeypatch):
    """Two trials make twice the steps of one."""
    monkeypatch.setattr(threads, "side_by_side", lambda work, shares, jobs: [(s, [0.0, 0.5, 1.0]) for s in shares])
    said = []
    result = compare(Settings(0.1, (16, 32), corpus, SMALL), said.append)
    assert set(result) == keys_of_json("nas bench threads")
    assert [row["hidden"] for row in result["rows"]] == [16, 32]
    assert {name: result["rows"][0][name] for name in WAYS} == {name: 2.0 * way.trials for name, way in WAYS.items()}
    assert len(said) == 8
