"""Recall by each kind: what counts of the trainings, what cannot be asked for; a run as small as can be."""

import csv
import json

import pytest

from nas.bench.attention import parse_kinds
from nas.bench.recall import KINDS, Settings, best, compare, parse_rates, task_of, write
from nas.errors import UsageError


def row(kind, rate, seed, val, test):
    figures = {"val_accuracy": val, "test_accuracy": test, "train_seconds": 1.0}
    return {"kind": kind, "learning_rate": rate, "seed": seed, "state_kib": 2.0, **figures}


def test_every_kind_of_the_default_has_a_name_of_its_own():
    kinds = parse_kinds(KINDS, hidden=64, heads=1)
    assert len(kinds) == len(KINDS.split(","))
    assert {kinds[name].heads for name in ("linear", "linear heads=4", "linear heads=16")} == {1, 4, 16}


def test_the_rate_is_chosen_by_validation_and_told_by_test():
    rows = [
        row("softmax", 0.01, 1, 0.9, 0.7),
        row("softmax", 0.01, 0, 0.8, 0.5),
        row("softmax", 0.03, 0, 0.1, 0.99),
        row("softmax", 0.03, 1, 0.1, 0.99),
    ]
    (told,) = best(rows)
    assert told["learning_rate"] == 0.01
    assert told["each"] == [0.5, 0.7]
    assert told["accuracy"] == pytest.approx(0.6)
    assert told["accuracy_sd"] == pytest.approx(0.02**0.5)


def test_a_small_run_is_written_whole(tmp_path):
    kinds = parse_kinds("softmax, linear heads=2", hidden=8, heads=1)
    settings = Settings(kinds, task_of(32, 16, 2, random_gaps=False), 8, 3, (0.01,), 2)
    said = []
    result = compare(settings, 1, said.append)
    write(result, tmp_path / "recall")
    assert [row["kind"] for row in result["kinds"]] == ["softmax", "linear heads=2"]
    assert len(said) == len(result["rows"]) == 4
    # Two blocks: keys and values of 16 tokens; two heads of 4 × (4 + 1) values. All of 4 bytes.
    assert [row["state_kib"] * 1024 for row in result["kinds"]] == [2 * 16 * 8 * 2 * 4, 2 * 2 * 4 * 5 * 4]
    assert {path.suffix for path in (tmp_path / "recall").iterdir()} == {".csv", ".json", ".svg", ".png"}
    with (tmp_path / "recall" / "recall.csv").open() as file:
        assert [line["seed"] for line in csv.DictReader(file)] == ["0", "1", "0", "1"]
    assert json.loads((tmp_path / "recall" / "recall.json").read_text())["settings"]["steps"] == 3


@pytest.mark.parametrize("text", ["", "x", "0.1,-1", "inf"])
def test_rates_that_cannot_be_are_usage_errors(text):
    with pytest.raises(UsageError, match="learning rates"):
        parse_rates(text)
