"""What the report says first: failures, disturbed measurements, and why there is no front."""

from dataclasses import replace

import pytest

from nas.report.remarks import remarks, why_empty
from nas.report.summary import Summary
from nas.report.words import outcomes
from nas.results import State
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
