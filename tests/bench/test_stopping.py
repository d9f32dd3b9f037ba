"""Replays of recorded searches, against the plain simulation of the stopping rule's own tests."""

import json

import pytest

from nas.bench.stopping import Recording, judge, read, record_of, replay, sentence, write
from nas.errors import UsageError
from nas.results import Objective, Rung
from tests.report.rows import stopped, study, trial
from tests.running.curves import LOSS_LATENCY, STEPS, Family, ours, search

LOSS = (Objective("val_loss", "min"),)


def recorded(trials) -> Recording:
    told = [
        {
            "baseline": False,
            "metrics": {"val_loss": each.losses[-1], "decode_ms_per_token": each.cheap["decode_ms_per_token"]},
            "rungs": [(step, {"val_loss": loss}) for step, loss in zip(STEPS, each.losses, strict=True)],
        }
        for each in trials
    ]
    return Recording(study="curves", objectives=[(o.metric, o.goal) for o in LOSS_LATENCY], trials=told)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_replay_is_what_a_search_over_the_same_curves_would_have_done(workers):
    trials = list(Family(0).proposals(48, LOSS_LATENCY))
    expected, found = search(trials, LOSS_LATENCY, ours, workers), replay(recorded(trials), range(48), workers)
    assert found.saved == pytest.approx(expected.saved)
    assert found.lost == pytest.approx(expected.lost, abs=1e-12)
    assert (found.stopped, found.front, found.front_stopped) == (
        len(expected.stopped),
        expected.front,
        expected.missed,
    )
    assert found.stopped


def test_a_recording_is_read_as_it_was_written_and_judged_in_several_orders(tmp_path):
    recording = recorded(list(Family(1).proposals(30, LOSS_LATENCY)))
    write(recording, tmp_path / "curves.json")
    assert read(tmp_path / "curves.json") == recording
    assert len((tmp_path / "curves.json").read_text(encoding="utf-8").splitlines()) == 32
    told = judge(recording, orders=2)
    assert (told["replays"], told["trials"]) == (6, 30)
    assert told == json.loads(json.dumps(judge(read(tmp_path / "curves.json"), orders=2)))
    assert sentence(told).startswith("curves: 30 trials, ")


def test_a_study_with_stopped_trials_is_no_recording_and_says_how_to_make_one(tmp_path):
    whole = trial(
        0, metrics={"val_loss": 1.0}, rungs=(Rung(50, 1.0, {"val_loss": 2.0}), Rung(200, 4.0, {"val_loss": 1.0}))
    )
    assert len(record_of(study([whole], LOSS))["trials"]) == 1
    with pytest.raises(UsageError, match="trial 1 of study 'rows' ended early") as caught:
        record_of(study([whole, stopped(1, (50, 1.0))], LOSS))
    assert "search.stopping=false" in caught.value.help
    (tmp_path / "no.json").write_text("[1, 2]")
    with pytest.raises(UsageError, match="no recording"):
        read(tmp_path / "no.json")
