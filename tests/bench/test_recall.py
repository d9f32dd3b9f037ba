"""Recall by each kind: what counts of the trainings, what cannot be asked for; a run as small as can be."""

import csv
import json

import pytest

from nas.bench.attention import parse_kinds
from nas.bench.recall import KINDS, Settings, best, compare, parse_rates, task_of
from nas.errors import Conflict, UsageError
from tests.documented import keys_of_json

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("parts_in_this_process")]


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


def small(kinds, steps=3, seeds=2):
    return Settings(kinds, task_of(32, 16, 2, random_gaps=False), 8, steps, "muon", (0.01,), seeds)


def test_a_small_run_is_written_whole(tmp_path):
    kinds = parse_kinds("softmax, linear heads=2", hidden=8, heads=1)
    settings = small(kinds)
    said = []
    result = compare(settings, 1, tmp_path / "recall", said.append)
    assert [row["kind"] for row in result["kinds"]] == ["softmax", "linear heads=2"]
    assert len(said) == len(result["rows"]) == 4
    assert set(result) == keys_of_json("nas bench recall")
    # Two blocks: keys and values of 16 tokens; two heads of 4 × (4 + 1) values. All of 4 bytes.
    assert [row["state_kib"] * 1024 for row in result["kinds"]] == [2 * 16 * 8 * 2 * 4, 2 * 2 * 4 * 5 * 4]
    assert {path.suffix for path in (tmp_path / "recall").iterdir()} == {".csv", ".json", ".svg", ".png"}
    with (tmp_path / "recall" / "recall.csv").open() as file:
        assert [line["seed"] for line in csv.DictReader(file)] == ["0", "1", "0", "1"]
    assert json.loads((tmp_path / "recall" / "recall.json").read_text())["settings"]["steps"] == 3


def test_a_run_that_was_stopped_goes_on_and_leaves_nothing_unfinished(tmp_path):
    class Stopped(Exception):
        pass

    def stop_after_two(what):
        said.append(what)
        if len(said) == 2:
            raise Stopped

    said: list[str] = []
    settings = small(parse_kinds("softmax, linear", hidden=8, heads=1))
    with pytest.raises(Stopped):
        compare(settings, 1, tmp_path, stop_after_two)
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished.json"]
    kept = json.loads((tmp_path / "unfinished.json").read_text())["rows"]

    with pytest.raises(Conflict, match="other settings") as caught:
        compare(small(settings.kinds, steps=4), 1, tmp_path, said.append)
    assert caught.value.where.endswith("unfinished.json: steps")

    smaller = small({"softmax": settings.kinds["softmax"]}, seeds=1)
    compare(smaller, 1, tmp_path, said.append)
    assert json.loads((tmp_path / "unfinished.json").read_text())["rows"] == [kept[1]]
    (tmp_path / "unfinished.json").write_text(json.dumps({"settings": settings.training(), "rows": kept}))

    again: list[str] = []
    result = compare(settings, 1, tmp_path, again.append)
    assert again[0] == "2 of 4 trainings are there already"
    assert len(again) == 3
    assert [row for row in result["rows"] if row in kept] == sorted(kept, key=result["rows"].index)
    assert not (tmp_path / "unfinished.json").exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"settings": 1, "rows": []}',
        '{"settings": {}, "rows": [{"kind": "softmax"}]}',
        '{"settings": {}, "rows": 1}',
    ],
)
def test_damaged_trainings_of_an_earlier_run_are_told(tmp_path, content):
    (tmp_path / "unfinished.json").write_text(content, encoding="utf-8")
    with pytest.raises(Conflict) as caught:
        compare(small(parse_kinds("softmax", hidden=8, heads=1)), 1, tmp_path, print)
    assert (caught.value.code, caught.value.where) == ("not-a-benchmark", str(tmp_path / "unfinished.json"))
    assert (tmp_path / "unfinished.json").read_text(encoding="utf-8") == content


@pytest.mark.parametrize("text", ["", "x", "0.1,-1", "inf"])
def test_rates_that_cannot_be_are_usage_errors(text):
    with pytest.raises(UsageError, match="learning rates"):
        parse_rates(text)
