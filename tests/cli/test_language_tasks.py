"""The language tasks from the study file to the report: shipped files on real data, and small tables of one's own."""

import json
import os
from pathlib import Path

import pytest

from nas.data import fetch, formats
from nas.data.catalogue import DATASETS
from nas.settings import study_file
from nas.study import open_study

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_search")]
FILES = Path(__file__).parents[2] / "search_spaces"
REAL = {"sentiment": "macro_f1", "babi": "exact_match", "translation": "bleu", "summaries": "rouge_l"}
GENERATED = {"recall": "exact_match", "list_ops": "macro_f1"}


@pytest.fixture
def searched(nas, tmp_path, monkeypatch):
    """Search with the smoke preset; the study, and the text of its page."""
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "runs"))

    def search(name, *overrides):
        options = [option for override in overrides for option in ("-s", override)]
        command = ("search", FILES / f"{name}.toml", "--preset", "smoke", "--executor", "serial", "--no-progress")
        ran = nas(*command, *options)
        assert ran.code == 0, ran.err
        page = Path("reports") / f"{name}-smoke" / "index.html"
        return open_study(f"{name}-smoke"), page.read_text(encoding="utf-8")

    return search


def check(study, page, metric):
    record = study.record()
    assert [str(trial.state) for trial in record.trials] == ["COMPLETE"] * 2
    assert all(metric in trial.metrics and trial.metrics["peak_training_mib"] > 0 for trial in record.trials)
    for name in record.data["floors"]["val"]:
        assert name in page


def part_of(corpus, path):
    """Writes some hundred rows of a known data set, spread over all of it, with the columns that the task reads."""
    dataset = DATASETS[corpus]
    own = {column: name for name, column in dataset.columns.items()}
    rows = [row for _, row in formats.parsed([fetch.content(dataset)], Path(dataset.file), ())]
    kept = rows[:: max(1, len(rows) // 600)]
    lines = (json.dumps({own.get(name, name): value for name, value in row.items()}) for row in kept)
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.skipif("NAS_DATA_DIR" not in os.environ, reason="NAS_DATA_DIR names no folder with the data sets")
@pytest.mark.parametrize(("name", "metric"), REAL.items())
def test_a_shipped_study_on_real_data(searched, tmp_path, name, metric):
    """The whole data sets are read by the tests of their tasks; of the larger ones a part is enough here."""
    corpus = study_file.load(FILES / f"{name}.toml").task.corpus
    part_of(corpus, tmp_path / "part.jsonl")
    study, page = searched(name, *() if name == "sentiment" else (f"task.corpus={tmp_path / 'part.jsonl'}",))
    check(study, page, metric)
    assert all("test_loss" not in trial.metrics for trial in study.trials())


@pytest.mark.parametrize(("name", "metric"), GENERATED.items())
def test_a_shipped_study_on_generated_data(searched, name, metric):
    check(*searched(name, "train.steps=6", "train.evaluation_tokens=1024"), metric)


def rows_of(name, number):
    """A row of each task's table, no two alike."""
    word, other = f"word{number % 7}", f"thing{number % 5}"
    return {
        "sentiment": {"text": f"{word} is {other} {number}", "label": "good" if number % 2 else "bad"},
        "babi": {"context": f"Day {number}. {word} has {other}.", "question": f"What has {word}?", "answer": other},
        "translation": {"source": f"{word} {other} {number}", "target": f"{other} {number} {word}"},
        "summaries": {"document": f"{word} does it. So {other} {number} follows. All.", "summary": f"{other} {number}"},
    }[name]


@pytest.mark.parametrize("name", REAL)
def test_a_hundred_rows_of_ones_own_are_enough_to_search_and_train(searched, nas, tmp_path, name):
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(json.dumps(rows_of(name, number)) for number in range(100)), encoding="utf-8")
    study, page = searched(name, f"task.corpus={path}", "task.subwords=300", "train.steps=4")
    check(study, page, REAL[name])
    assert sum(study.record().data["splits"].values()) == 100
    ran = nas("train", f"{name}-smoke", 0)
    assert ran.code == 0, ran.err
    stored = json.loads((Path(ran.out.strip()) / "metrics.json").read_text())
    assert f"test_{REAL[name]}" in stored["metrics"]
    told = {"sentiment": "accuracy", "babi": "exact_match", "summaries": "rouge_l"}.get(name)
    for differences in stored["differences"].values():
        assert differences[told]["low"] <= differences[told]["difference"] <= differences[told]["high"]
    assert bool(stored["differences"]) == (name != "translation")
