"""`nas show`."""

import json

import pytest

from nas.files import write_json


def test_tells_everything_about_a_trial(nas):
    ran = nas("show", "demo", 0)
    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= 80
    for text in ("on the front, a baseline, contended", "COMPLETE", "softmax heads=2", "swiglu, 40 wide"):
        assert text in ran.out
    metric = next(line for line in ran.out.splitlines() if line.startswith("decode_ms_per_token"))
    assert metric.split() == ["decode_ms_per_token", "0.1645", "ms", "0.1609–0.1681"]
    assert ["6", "3.0", "2.240", "0.2500"] in [line.split() for line in ran.out.splitlines()]
    assert ["hardware", "a", "processor"] in [line.split() for line in ran.out.splitlines()]
    assert "Train this architecture for 60 steps" in ran.out
    assert "nas train demo 0 --steps 60" in ran.out
    assert "nas generate" not in ran.out


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
    assert trial["hardware"] == "a processor"
    assert trial["commands"][0] == "nas train demo 0 --steps 60"


def test_unknown_trial(nas):
    ran = nas("show", "demo", 99)
    assert (ran.code, ran.out) == (2, "")
    assert "it has trials 0 to" in ran.err


def test_a_limit_that_is_exceeded_is_told_with_the_value(nas, stored):
    rows = [json.loads(nas("show", "demo", number, "--json").out) for number in range(4)]
    over = [row for row in rows if any(violation > 0 for violation in row["violations"].values())]
    assert over
    for row in over:
        lines = nas("show", "demo", row["number"]).out.splitlines()
        told = " ".join(next(line for line in lines if line.startswith("over limit")).split())
        assert told == f"over limit params {row['metrics']['params']:,.0f}, limit params <= 9000"


@pytest.mark.parametrize(
    ("vocabulary", "prompt"),
    [
        ({"coder": "characters", "symbols": list(" Thefox")}, "'The '"),
        ({"coder": "characters", "symbols": list(" efhotx")}, "efh"),
        ({"coder": "characters", "symbols": ["<pad>", "0", "1", "7", "8"]}, "017"),
        ({"coder": "words", "symbols": ["-", "k1", "k2", "v3", "v4"]}, "'k1 k2 v3'"),
        ({"coder": "subwords", "symbols": ["a"]}, "'The '"),
        (["damaged"], "'The '"),
    ],
)
def test_trained_models_are_listed_and_a_prompt_proposed_of_what_they_know(nas, runs, vocabulary, prompt):
    folder = runs / "demo" / "trained" / "0-s7-40"
    folder.mkdir(parents=True)
    write_json(folder / "metrics.json", {"steps": 40, "seed": 7, "metrics": {"test_loss": 1.5}})
    write_json(folder / "vocabulary.json", vocabulary)
    (folder / "model.safetensors").write_bytes(b"")
    out = nas("show", "demo", 0).out
    assert f"nas generate demo 0 --prompt {prompt}" in out
    assert ["40", "7", "1.500"] in [line.split()[-3:] for line in out.splitlines()]
    (model,) = json.loads(nas("show", "demo", 0, "--json").out)["models"]
    assert (model["folder"], model["steps"], model["seed"], model["test_loss"]) == (str(folder), 40, 7, 1.5)
