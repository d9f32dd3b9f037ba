"""The trials as a table and the front for programs."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

from nas import pareto
from nas.architecture import Architecture
from nas.report import tables
from nas.results import State


def test_a_row_for_each_trial_with_everything_that_is_stored(record):
    frame = tables.to_frame(record)
    assert list(frame["number"]) == [trial.number for trial in record.trials]
    assert list(frame.columns[:3]) == ["number", "state", "reason"]
    assert set(frame.columns) >= {
        "architecture_id",
        "architecture",
        "params.hidden",
        "val_loss",
        "violations.weights_mib",
    }
    assert set(frame.columns) >= {"decode_ms_per_token_p90", "attempt", "started", "finished", "seconds", "on_front"}
    front = {trial.number for trial in pareto.front_of(record)}
    assert set(frame.loc[frame["on_front"], "number"]) == front
    first = frame.iloc[0]
    assert first["architecture"] == "hidden 64: 2× softmax heads=4 swiglu"
    assert first["seconds"] == pytest.approx(record.trials[0].finished - record.trials[0].started)
    assert frame["contended"].sum() == sum(trial.contended for trial in record.trials) > 0


def test_what_a_trial_lacks_is_missing_and_not_zero(record):
    frame = tables.to_frame(record).set_index("number")
    untrained = next(trial for trial in record.trials if trial.reason.startswith("infeasible"))
    assert math.isnan(frame.loc[untrained.number, "val_loss"])
    without = replace(record.trials[1], params={"depth": 2})
    mixed = tables.to_frame(replace(record, trials=(record.trials[0], without)))
    assert mixed["params.hidden"].isna().tolist() == [False, True]
    assert mixed["params.hidden"].dtype == "Int64"


def test_what_the_search_thought_of_a_trial_stands_beside_what_came(record):
    first = replace(record.trials[0], predicted={"val_loss": 2.5}, bound=(2.1, 0.3, 1.0))
    frame = tables.to_frame(replace(record, trials=(first, record.trials[1])))
    assert frame["predicted.val_loss"].iloc[0] == 2.5
    assert [frame[f"bound.{o.metric}"].iloc[0] for o in record.objectives] == [2.1, 0.3, 1.0]
    assert frame["bound.val_loss"].isna().tolist() == [False, True]
    assert not [name for name in tables.to_frame(record).columns if name.startswith(("predicted.", "bound."))]


def test_a_study_without_trials_is_an_empty_table(record):
    frame = tables.to_frame(replace(record, trials=()))
    assert len(frame) == 0
    assert {"number", "state", "on_front", "seconds"} <= set(frame.columns)
    assert tables.front_rows(replace(record, trials=())) == []


def test_csv_and_parquet_are_the_frame(record, page):
    frame = tables.to_frame(record)
    parquet = pd.read_parquet(page.with_name("trials.parquet"))
    pd.testing.assert_frame_equal(parquet, frame)
    text = {"state": str, "reason": str, "architecture_id": str, "architecture": str}
    # A trial's reason may be the word nan, which is a reason and no gap.
    csv = pd.read_csv(page.with_name("trials.csv"), dtype=text, keep_default_na=False, na_values=[""])
    csv["reason"] = csv["reason"].fillna("")
    pd.testing.assert_frame_equal(csv, frame, check_dtype=False)


def test_front_json_holds_the_front_in_the_form_of_the_command_line(record, page):
    rows = json.loads(page.with_name("front.json").read_text(encoding="utf-8"))
    assert rows == tables.front_rows(record)
    front = pareto.front_of(record)
    assert [row["number"] for row in rows] == [trial.number for trial in front]
    for row, trial in zip(rows, front, strict=True):
        assert set(row) == {"number", "architecture_id", "architecture", "learning_rate", "metrics", "confirmed"}
        assert Architecture.model_validate(row["architecture"]).id == row["architecture_id"] == trial.architecture_id
        assert row["metrics"] == dict(trial.metrics)


def test_a_metric_that_is_not_finite_becomes_null(record):
    trial = replace(record.trials[0], metrics={**record.trials[0].metrics, "perplexity": math.inf})
    (row,) = tables.front_rows(replace(record, trials=(trial,)))
    assert trial.state is State.COMPLETE
    assert row["metrics"]["perplexity"] is None


def test_the_tables_load_neither_figures_nor_what_runs_a_search():
    code = """
import sys, nas.report.tables
print(sorted({"torch", "ray", "optuna", "matplotlib", "pandas"} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
