"""`nas show`."""

import json


def test_tells_everything_about_a_trial(nas):
    ran = nas("show", "demo", 0)
    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= 80
    for text in ("on the front, a baseline, contended", "COMPLETE", "softmax heads=2", "swiglu, 40 wide"):
        assert text in ran.out
    metric = next(line for line in ran.out.splitlines() if line.startswith("decode_ms_per_token"))
    assert metric.split() == ["decode_ms_per_token", "0.1645", "ms", "0.1609–0.1681"]
    assert ["6", "3.0", "2.24", "0.25"] in [line.split() for line in ran.out.splitlines()]
    assert "nas train demo 0" in ran.out
    assert "nas generate demo 0 --prompt" in ran.out


def test_tells_the_learning_rate_that_the_search_chose(nas, runs, settings, make_study):
    searched = settings.train.model_copy(update={"learning_rate": (0.0125, 0.025)})
    make_study(runs, settings.model_copy(update={"name": "rates", "train": searched}))
    trial = json.loads(nas("show", "rates", 1, "--json").out)
    assert ["learning", "rate", f"{trial['learning_rate']:g}"] in [
        line.split() for line in nas("show", "rates", 1).out.splitlines()
    ]
    assert "learning rate" not in nas("show", "demo", 1).out


def test_tells_why_a_trial_was_not_trained(nas):
    ran = nas("show", "demo", 2)
    assert ran.code == 0
    assert "FAIL: nan" in ran.out


def test_json(nas):
    (line,) = nas("show", "demo", 0, "--json").out.splitlines()
    trial = json.loads(line)
    assert (trial["type"], trial["number"], trial["state"], trial["on_front"]) == ("result", 0, "COMPLETE", True)
    assert [rung["step"] for rung in trial["rungs"]] == [3, 6]
    assert trial["architecture"]["hidden"] == 16
    assert trial["commands"][0] == "nas train demo 0"


def test_unknown_trial(nas):
    ran = nas("show", "demo", 99)
    assert (ran.code, ran.out) == (2, "")
    assert "it has trials 0 to" in ran.err
