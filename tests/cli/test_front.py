"""`nas front`."""

import io
import json
import sys

import pandas as pd
import pytest

from nas.cli.__main__ import main


def numbers(ran) -> list[int]:
    return [row["number"] for row in json.loads(ran.out)]


def test_table_fits_80_columns_and_marks_knee_and_contended(nas):
    ran = nas("front", "demo")
    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= 80
    trials = [line.split()[0] for line in ran.out.splitlines() if line[:8].strip() and line[6] == " "]
    assert sum(trial.endswith("*") for trial in trials) == 1
    assert "0~" in ran.out
    assert "0.1609–0.1681" in ran.out
    assert "softmax heads=2" in ran.out


def test_json_rows_are_best_first_with_architecture_and_metrics(nas):
    rows = json.loads(nas("front", "demo", "--format", "json").out)
    fields = {"number", "architecture_id", "architecture", "learning_rate", "metrics", "confirmed"}
    assert [set(row) for row in rows] == [fields] * len(rows)
    losses = [row["metrics"]["val_loss"] for row in rows]
    assert losses == sorted(losses)
    assert rows[-1]["number"] == 0


def test_csv_and_parquet_hold_the_same_members(nas, stored, monkeypatch):
    expected = sorted(numbers(nas("front", "demo", "--format", "json")))
    csv = pd.read_csv(io.StringIO(nas("front", "demo", "--format", "csv").out))
    assert sorted(csv["number"]) == expected

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw))
    monkeypatch.setattr(sys, "argv", ["nas", "front", "demo", "--format", "parquet"])
    with pytest.raises(SystemExit):
        main()
    assert sorted(pd.read_parquet(io.BytesIO(raw.getvalue()))["number"]) == expected


def test_parquet_is_refused_on_a_terminal(nas, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    ran = nas("front", "demo", "--format", "parquet")
    assert (ran.code, ran.out) == (2, "")
    assert "redirect it" in ran.err


def test_limits_come_before_dominance(nas, settings, tmp_path, monkeypatch, make_study):
    one_goal = settings.model_copy(update={"objectives": settings.objectives[:1]})
    make_study(tmp_path / "one", one_goal)
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "one"))
    (best,) = numbers(nas("front", "demo", "--format", "json"))
    (within,) = numbers(nas("front", "demo", "--format", "json", "--where", "decode_ms_per_token<=0.2"))
    assert within != best  # dominated without the limit, the best within it


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("weights_mib<=0.016", {0.016}),
        ("weights_mib < 0.024", {0.016}),
        ("weights_mib>=0.024", {0.024, 0.032}),
        ("weights_mib > 0.024", {0.032}),
        ("weights_mib==0.024", {0.024}),
    ],
)
def test_operators(nas, where, kept):
    rows = json.loads(nas("front", "demo", "--format", "json", "--where", where).out)
    assert {row["metrics"]["weights_mib"] for row in rows} == kept


def test_limits_hold_together(nas):
    options = ("--where", "weights_mib>=0.02", "--where", "decode_ms_per_token<=0.3")
    rows = json.loads(nas("front", "demo", "--format", "json", *options).out)
    assert {row["metrics"]["weights_mib"] for row in rows} == {0.024}


def test_nothing_left_names_the_nearest_value(nas):
    ran = nas("front", "demo", "--where", "weights_mib<0.016")
    assert (ran.code, ran.out) == (3, "")
    assert "error[nothing-feasible]" in ran.err
    assert "weights_mib < 0.016: the nearest is 0.016 (trial 0)" in ran.err


def test_of_limits_that_exclude_each_other_each_tells_its_nearest(nas):
    ran = nas("front", "demo", "--where", "weights_mib>0.02", "--where", "decode_ms_per_token<0.2")
    assert ran.code == 3
    assert "weights_mib > 0.02: the nearest is 0.016 (trial 0)" in ran.err
    assert "decode_ms_per_token < 0.2: the nearest is 0.2445 (trial 4)" in ran.err


def test_unknown_metric_names_the_nearest(nas):
    ran = nas("front", "demo", "--where", "decode_ms<=1")
    assert (ran.code, ran.out) == (2, "")
    assert "did you mean 'decode_ms_per_token'?" in ran.err


@pytest.mark.parametrize("name", ["exact_match:7", "exact_match:two <= three", "bleu:10"])
def test_metrics_of_groups_may_have_any_name(nas, name):
    assert f"unknown metric '{name}'" in nas("front", "demo", "--where", f"{name}<=0.5").err


@pytest.mark.parametrize("where", ["weights_mib", "weights_mib=1", "weights_mib<=much", "<=1", "weights_mib<=nan", ""])
def test_what_is_no_limit_is_refused(nas, where):
    ran = nas("front", "demo", "--where", where)
    assert ran.code == 2
    assert "expected METRIC OPERATOR NUMBER" in ran.err


def test_a_study_without_a_feasible_trial(nas, settings, tmp_path, monkeypatch, make_study):
    make_study(tmp_path / "empty", settings, trials=0)
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "empty"))
    ran = nas("front", "demo")
    assert ran.code == 3
    assert "no trial of study 'demo' is complete and feasible" in ran.err


@pytest.mark.parametrize(
    "where",
    [
        "params" + " " * 50_000 + "x",
        "params" + " " * 50_000 + "<=x",
        " " * 50_000,
        "a " * 25_000 + "<" * 50_000,
        "x" * 50_000,
        "params<=nan",
        "params<=",
        "<=1",
        "params<=1 2",
        "params<==1",
    ],
    ids=range(10),
)
def test_a_limit_that_cannot_be_read_is_told_at_once(nas, where):
    """A limit of 50,000 spaces once took a minute: the pattern tried every way to divide them."""
    ran = nas("front", "demo", "--where", where)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err) < 3000


@pytest.mark.parametrize("where", ["val_loss=<2", "val_loss=2", "val_loss<<2", "val_loss", "<=2", "val_loss<=two"])
def test_what_is_no_limit_is_told_the_form(nas, where):
    ran = nas("front", "demo", "--where", where)
    assert ran.code == 2
    assert f"expected METRIC OPERATOR NUMBER, got '{where}'" in ran.err
