"""What the report says first: failures, disturbed measurements, and why there is no front."""

import json
import re
from dataclasses import replace

import pandas as pd
import pytest

from nas import report
from nas.measurement import at_best_pace
from nas.report.remarks import remarks, why_empty
from nas.report.summary import Summary
from nas.report.words import outcomes
from nas.results import Constraint, Metric, Objective, State
from tests.report.rows import study, trial

GOOD = {"val_loss": 2.0, "val_accuracy": 0.5, "params": 10.0}


def failed(number: int, reason: str, detail: str = ""):
    return trial(number, State.FAIL, reason=reason, detail=detail)


def of(*trials):
    return Summary.of(study(trials))


def test_when_all_have_failed_the_failures_are_told_and_not_the_constraints():
    traceback = "Traceback (most recent call last):\n  File ...\nRuntimeError: shapes do not fit"
    summary = of(failed(0, "oom"), failed(1, "error", traceback), failed(2, "oom"))
    told = "Every trial that ended has failed: 2 (out of memory) and 1 (an error)."
    assert remarks(summary) == [f"{told} Trial 1 says: RuntimeError: shapes do not fit."]
    assert why_empty(summary) == remarks(summary)[0]
    assert [(role, why) for role, why, _ in outcomes(summary)] == [("failed", "out of memory"), ("failed", "an error")]


def test_failures_beside_others_are_counted():
    summary = of(trial(0, metrics=GOOD), failed(1, "nan"), failed(2, "nan"))
    assert remarks(summary)[-1] == "2 trials failed: a loss or an objective was not finite."


@pytest.mark.parametrize(("reason", "why"), [("oom", "out of memory"), ("unheard", "unheard"), ("", "no")])
def test_every_failure_has_a_reason_in_words(reason, why):
    assert why in remarks(of(failed(0, reason)))[0]


def test_a_long_error_is_shortened():
    assert len(remarks(of(failed(0, "error", "x" * 100_000)))[0]) < 400


def test_disturbed_measurements_are_told_with_what_they_may_have_decided():
    timed = trial(0, metrics=GOOD, contended=True, violations={"decode_ms_per_token": 0.5})
    exact = trial(1, metrics=GOOD, contended=True, violations={"params": 0.5})
    summary = of(timed, exact, trial(2, metrics=GOOD))
    assert remarks(summary) == [
        "2 of 3 trials had a time measured while other programs used the machine; it may be too long. "
        "1 of them may be over a limit on a time for that reason alone."
    ]
    assert {why for _, why, _ in outcomes(summary)} == {
        "over the limit on decode_ms_per_token, measured while other programs ran",
        "over the limit on params",
        "non-dominated",
    }


def test_an_idle_machine_is_not_mentioned():
    assert remarks(of(trial(0, metrics=GOOD))) == []
    assert remarks(Summary.of(replace(study([]), budget=3))) == ["No trial has been trained yet."]


LIMIT = Constraint("decode_ms_per_token", max=0.5)
METRICS = {"val_loss": 2.0, "decode_ms_per_token": 7.0, "decode_ms_per_token_best": 0.3, "contended": 1.0}


def timed(number: int, best: float, loss: float):
    metrics = {**METRICS, "val_loss": loss, "decode_ms_per_token_best": best}
    violations = {LIMIT.metric: LIMIT.violation(at_best_pace(metrics))}
    return trial(number, metrics=metrics, contended=True, violations=violations)


def test_disturbed_trials_are_drawn_with_their_flag_and_what_judged_them(tmp_path):
    """One is over the limit even by its fastest readings, one is within it by these alone, one is undisturbed."""
    idle = trial(2, metrics={"val_loss": 1.9, "decode_ms_per_token": 0.2}, violations={LIMIT.metric: -0.6})
    objectives = (Objective("val_loss", "min"), Objective("decode_ms_per_token", "min"))
    record = study([timed(0, best=1.4, loss=1.5), timed(1, best=0.3, loss=1.7), idle], objectives)
    index = report.write(replace(record, constraints=(LIMIT,)), tmp_path / "report")
    text = index.read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', text, re.S)[1])
    over, within, quiet = data["trials"]
    assert [(t["role"], "contended" in t["flags"], t["values"]) for t in (over, within, quiet)] == [
        ("infeasible", True, [1.5, 7.0]),
        ("front", True, [1.7, 7.0]),
        ("front", False, [1.9, 0.2]),
    ]
    assert over["reason"] == "over the limit on decode_ms_per_token, measured while other programs ran"
    assert "1 of them may be over a limit on a time for that reason alone." in text
    assert "1 of them met a limit by the fastest readings, and show a time above it." in text
    table = pd.read_csv(index.parent / "trials.csv")
    assert list(table["contended"]) == [True, True, False]
    assert list(table["on_front"]) == [False, True, True]
    svg = (index.parent / "pareto_val_loss_decode_ms_per_token.svg").read_text(encoding="utf-8")
    assert "infeasible" in svg


@pytest.mark.parametrize(("cheap", "exact", "told"), [(True, False, True), (True, True, False), (False, False, False)])
def test_only_a_limit_on_what_is_timed_before_training_is_laid_to_other_load(cheap, exact, told):
    own = Metric("latency", "min", "ms", "", cheap=cheap, exact=exact)
    disturbed = trial(0, metrics=GOOD | {"latency": 7.0}, contended=True, violations={"latency": 0.5})
    summary = Summary.of(replace(study([disturbed]), own_metrics={"latency": own}))
    ((_, why, _),) = outcomes(summary)
    assert ("measured while other programs ran" in why) == told
