"""`nas confirm`: its events and its result, what it prints, and how it ends."""

import json

import pytest
from rich.console import Console

from nas.cli.confirm_progress import ConfirmProgress, told
from nas.measurement import TimedMetrics
from nas.running import confirmation_plan, measuring
from nas.running.stop_control import request_stop
from nas.study.drivers import Drivers
from nas.study.stored_study import open_study
from nas.study.study_jobs import StudyJobs
from nas.study.transactions import Database
from tests.cli.test_json_contract import EVENTS, OTHERS, emitted

pytestmark = pytest.mark.slow
FEW = ("--executor", "serial", "--seeds", "1", "--most", "1")
ALWAYS = {"what", "trial", "does", "seed"}


def times(*_):
    return TimedMetrics({"decode_ms_per_token": 0.5, "prefill_ms": 1.0, "contended": 0.0})


@pytest.fixture
def quick(runs, monkeypatch):
    """The stored study, which is measured in an instant, twice at once."""
    monkeypatch.setattr(measuring, "_measure", times)
    monkeypatch.setattr(confirmation_plan, "BLOCKS", 2)
    monkeypatch.setattr(confirmation_plan, "APART_SECONDS", 0.0)
    monkeypatch.setenv("NAS_REPORTS", str(runs.parent / "reports"))
    return runs


def test_it_confirms_prints_the_front_and_with_nothing_left_prints_it_again(nas, quick):
    ran = nas("confirm", "demo", *FEW)
    assert ran.code == 0, ran.err
    assert "confirming demo: the front" in ran.err
    assert "2 measurements each, a minute apart" in ran.err
    assert "measured again: prefill_ms 1  decode_ms_per_token 0.5000" in ran.err
    assert "tested with seed" in ran.err
    assert f"Report: {quick.parent / 'reports' / 'demo' / 'index.html'}" in ran.err
    assert ran.out == nas("front", "demo").out
    again = nas("confirm", "demo", *FEW)
    assert (again.code, again.out) == (0, ran.out)
    assert "seed" not in again.err.replace("new seed", "").replace("its seed", "").replace("of them", "")
    assert "confirmed" in nas("status", "demo").out


@pytest.mark.usefixtures("quick")
def test_its_events_and_its_result_have_the_documented_keys(nas):
    ran = nas("confirm", "demo", *FEW, "--json")
    assert ran.code == 0, ran.err
    lines = emitted(ran.out)
    assert lines[-1] == ("result", OTHERS["nas confirm", "result"])
    for kind, keys in lines[:-1]:
        assert keys <= EVENTS[kind]
        assert keys >= (ALWAYS if kind == "confirmation" else EVENTS[kind] - {"trial"})
    kinds = [kind for kind, _ in lines]
    assert kinds.count("confirming") == 1
    events = [json.loads(line) for line in ran.out.splitlines()]
    ended = [e for e in events if e["type"] == "confirmation" and e["what"] == "ended"]
    assert {e["does"] for e in ended} == {"training", "block", "test"}
    result = events[-1]
    assert {member["seeds"] for member in result["members"]} == {1}
    assert set(result["remaining"]) == {m["trial"] for m in result["members"] if m["tested"]}


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--seeds", "4", "--most", "2"), 2, "--seeds must be at most 2"),
        (("--where", "params<=1"), 3, "error[nothing-feasible]"),
        (("--budget", "1ms"), 2, "--budget"),
        (("--budget", "0.01s", "--executor", "serial"), 2, "error[small-budget]"),
        (("--executor", "threads"), 2, "unknown executor"),
        (("--steps", "0"), 2, "--steps must be from 1"),
    ],
)
def test_wrong_options_end_it_with_their_code(nas, runs, options, code, said):
    ran = nas("confirm", "demo", *options)
    assert (ran.code, said in ran.err) == (code, True), ran.err
    assert open_study(runs / "demo").record().confirmed == {}


def test_a_stopped_one_says_how_to_go_on(nas, quick, monkeypatch):
    call = ConfirmProgress.__call__

    def stopping(progress, event):
        call(progress, event)
        if event["type"] == "confirmation" and event["what"] == "begun":
            request_stop(quick / "demo", now=True)

    monkeypatch.setattr(ConfirmProgress, "__call__", stopping)
    ran = nas("confirm", "demo", *FEW)
    assert ran.code == 0, ran.err
    assert "it was told to stop, or its budget is over" in ran.err
    assert "Continue with: nas confirm demo" in ran.err


def test_a_failure_is_told_with_its_reason():
    event = {"type": "confirmation", "what": "ended", "trial": 3, "does": "training", "seed": 7, "metrics": {}}
    line = told(event | {"state": "FAIL", "reason": "nan", "detail": "Traceback\nDiverged: loss is nan"})
    assert line == "trial 3, seed 7: nan  Diverged: loss is nan"


def test_the_panel_counts_trainings_and_shows_what_runs():
    shown = ConfirmProgress(json=False, live=False)
    about = {"type": "confirmation", "trial": 3, "does": "training", "seed": 7}
    numbers = {"seeds": 2, "most": 4, "steps": 20, "trained": 1, "blocks": 5}
    shown({"type": "confirming", "name": "demo", "front": [3, 5], "near": [8], **numbers})
    shown({**about, "what": "begun", "attempt": 1})
    shown({**about, "what": "rung", "step": 10, "seconds": 1.0, "metrics": {}})
    console = Console(width=100)
    with console.capture() as drawn:
        console.print(shown._panel())
    assert "1 of 6 or more" in drawn.get()
    assert "trial 3, seed 7: step 10" in drawn.get()
    assert "the front 3, 5, and near it 8; 2 new seeds each" in drawn.get()
    shown({**about, "what": "ended", "state": "COMPLETE", "reason": "", "detail": "", "metrics": {"val_loss": 2.0}})
    assert (shown.trained, shown.running) == (2, {})


def test_status_names_the_drivers_that_confirm(nas, runs):
    database = Database(f"sqlite:///{runs / 'demo' / 'study.db'}")
    Drivers(StudyJobs.of_name(database, "demo")).register(confirms=True)
    shown = nas("status", "demo")
    assert "confirms" in shown.out
    assert "0 trials, 0 trainings" in shown.out
    now = json.loads(nas("status", "demo", "--json").out)
    assert now["confirmation"]["drivers"] == 1
    database.close()
