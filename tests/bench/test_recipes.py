"""The benchmark of recipes: its means, what it refuses, and a run of a few steps."""

import json

import pytest

from nas.bench import interleaved, recipes
from nas.bench.recipes import Settings, compare, means, parse_recipes
from nas.errors import UsageError
from tests.documented import keys_of_json

STUDY = """
name = "small"
[task]
kind = "language_modelling"
corpus = "text.txt"
context = 8
[space]
depth = 1
hidden = [16]
attention = [{ kind = "softmax", heads = [2] }]
[train]
steps = 10
batch = 2
[[objectives]]
metric = "val_loss"
"""
BASELINE = """
[[baselines]]
hidden = 16
depth = 1
attention = { kind = "softmax", heads = 2 }
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")

    def write(text):
        path = tmp_path / "small.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_versions_are_read_the_oldest_first():
    assert parse_recipes("2,1") == (1, 2)
    for text in ("", "1,99", "new"):
        with pytest.raises(UsageError, match="cannot read the recipes"):
            parse_recipes(text)


def test_means_are_over_the_seeds_of_a_study_and_recipe():
    rows = [
        {"study": "a", "recipe": recipe, "seconds": seconds, "metrics": {"val_loss": seconds + recipe}}
        for recipe, seconds in ((1, 2.0), (2, 3.0), (1, 4.0))
    ]
    assert means(rows) == {"a": {"1": {"seconds": 3.0, "val_loss": 4.0}, "2": {"seconds": 3.0, "val_loss": 5.0}}}


def test_a_study_without_a_baseline_is_refused(study, tmp_path):
    with pytest.raises(UsageError, match="has no baseline"):
        compare(Settings((study(STUDY),)), print)


@pytest.mark.slow
def test_a_small_run_is_written_whole(study, tmp_path, monkeypatch):
    monkeypatch.setattr(interleaved, "WARM_UP_SECONDS", 1e-9)
    said = []
    result = compare(Settings((study(STUDY + BASELINE),), seeds=2), said.append)
    recipes.write(result, tmp_path)
    assert set(result) == keys_of_json("nas bench recipes")
    assert json.loads((tmp_path / "recipes.json").read_text())["rows"] == result["rows"]
    assert [(row["recipe"], row["seed"]) for row in result["rows"]] == [(1, 0), (2, 0), (1, 1), (2, 1)]
    assert result["rows"][0]["steps"] == 10
    assert result["rows"][0]["metrics"]["val_loss"] != result["rows"][2]["metrics"]["val_loss"]
    assert set(result["studies"]["small"]) == {"1", "2"}
    assert len(said) == 3
