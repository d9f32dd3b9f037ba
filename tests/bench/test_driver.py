"""The overhead benchmark: what it makes of the times at which trials end, and a short run of ours.

A whole comparison takes minutes: by hand.
"""

import random

import pytest

from nas.bench import driver_launch
from nas.bench.driver import Settings, claim, compare, write
from nas.bench.driver_estimate import overheads, pace, with_interval
from nas.errors import Conflict, UsageError
from nas.running import driver as running
from nas.running.driver import Launch
from nas.settings.study_file import parse


def ends(startup: float, each: float, trials: int, jitter: float = 0.0, seed: int = 0) -> list[float]:
    generator = random.Random(seed)
    return [startup + each * n + generator.uniform(0, jitter) for n in range(trials)]


def test_the_pace_of_a_run_is_found_whatever_its_start_took_and_while_others_pause_it():
    found = pace(ends(15.0, 0.08, 60, jitter=0.02), ends(3.0, 0.05, 60))
    assert found["seconds_per_trial"] == pytest.approx(0.08, rel=0.02)
    assert found["driver_cpu_seconds_per_trial"] == pytest.approx(0.05)
    assert found["startup_seconds"] == pytest.approx(15.0, abs=0.02)
    paused = [end + 20 * (number >= 50) for number, end in enumerate(ends(15.0, 0.08, 60))]
    assert pace(paused, paused)["seconds_per_trial"] == pytest.approx(0.08, rel=0.02)
    slow_start = [0.5 * number if number < 8 else 4 + 0.08 * number for number in range(60)]
    assert pace(slow_start, slow_start)["seconds_per_trial"] == pytest.approx(0.08, rel=0.02)


def test_a_pace_is_never_negative():
    assert pace([5.0] * 30, [1.0] * 30)["seconds_per_trial"] == 0
    generator = random.Random(0)
    ended = sorted(generator.uniform(0, 100) for _ in range(30))
    assert pace(ended, ended)["seconds_per_trial"] > 0


def test_intervals_hold_the_truth_as_often_as_they_say():
    generator = random.Random(1)
    held = 0
    for _ in range(400):
        found = with_interval([generator.lognormvariate(-2.5, 0.2) for _ in range(5)])
        held += found["low"] <= 2.718281828**-2.5 <= found["high"]
    assert 0.92 <= held / 400 <= 0.98


def test_a_load_that_lasts_for_a_whole_pair_leaves_the_ratio_as_it_is():
    rest = {"driver_cpu_seconds_per_trial": 0.0, "startup_seconds": 0.0, "ending_seconds": 0.0}
    rows = [
        {"pair": pair, "who": who, "seconds_per_trial": each * load, **rest}
        for pair, load in enumerate((1.0, 1.0, 4.0))
        for who, each in (("ours", 0.1), ("stock", 2.0))
    ]
    found = overheads(rows)
    assert [found["ratio"][key] for key in ("mean", "low", "high")] == pytest.approx([20, 20, 20])
    assert found["ours_seconds_per_trial"]["low"] < 0.1 < found["ours_seconds_per_trial"]["high"]
    alone = overheads(rows[:2])["ratio"]
    assert (alone["mean"], alone["low"], alone["high"]) == (pytest.approx(20), None, None)


def test_pairs_alternate_and_the_first_of_a_pair_takes_turns(monkeypatch, tmp_path):
    ran = []

    def run(who, trials, place):
        ran.append(who)
        return {**pace(ends(1, {"ours": 0.1, "stock": 1.0}[who], trials), [1.0] * trials), "ending_seconds": 1.0}

    monkeypatch.setattr("nas.bench.driver._run", run)
    result = compare(Settings(trials=20, pairs=3), lambda what: None)
    assert ran == ["ours", "stock", "stock", "ours", "ours", "stock"]
    assert result["ratio"]["mean"] == pytest.approx(10)
    assert result["database"]["kind"] == "sqlite"
    claim(tmp_path)
    write(result, tmp_path)
    claim(tmp_path)
    (tmp_path / "driver.json").write_text("{}")
    with pytest.raises(Conflict):
        claim(tmp_path)


def test_too_few_trials_for_a_slope_are_refused():
    with pytest.raises(UsageError, match="--trials"):
        Settings(trials=19)


@pytest.mark.slow
def test_our_trivial_trials_are_trials_of_a_search(tmp_path):
    finished = []
    launch = Launch(trials=12, executor="serial")
    file = parse(driver_launch.STUDY)
    outcome = running.run(file, tmp_path / "study", launch, finished.append, driver_launch.trivial)
    assert outcome.study.record().trained_count() == 12
    assert sum(event["type"] == "finished" and event["state"] == "COMPLETE" for event in finished) == 12
