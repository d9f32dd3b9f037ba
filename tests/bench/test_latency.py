"""The retest of measuring runs, once beside a real trainer. Its figures depend on the machine and are not judged.

How intervals are judged is tested on simulated rounds.
"""

import math
from pathlib import Path

import numpy as np
import pytest

from nas.bench.latency import TIMED, retest
from nas.bench.latency_coverage import coverage, summary
from nas.settings import study_file
from tests.documented import keys_of_json, keys_of_list, section
from tests.running.tables import settings
from tests.running.test_driver import TINY

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_search")]
SPACES = Path(__file__).parents[2] / "search_spaces"


def test_tells_both_metrics_and_how_much_was_contended(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    result = retest(settings(*TINY, f"task.corpus={corpus}"), architectures=3, beside=1)
    assert all(-1 <= result[f"{name}_spearman"] <= 1 for name in TIMED)
    assert all(math.isfinite(result[f"{name}_median_difference"]) for name in TIMED)
    assert 0 <= result["contended_idle"] <= 1
    assert 0 <= result["contended_busy"] <= 1
    assert set(result) == {key for key in keys_of_json("nas bench latency") if not key.startswith("parts_")}


def test_encoders_have_no_decoding_to_compare():
    file = study_file.load(SPACES / "list_ops.toml", ["measure.repeats=3", "train.batch=2"])
    result = retest(file, architectures=2, beside=0)
    assert "prefill_ms_spearman" in result
    assert "decode_ms_per_token_spearman" not in result


def test_whole_answers_are_told_beside_their_parts(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    file = study_file.load(
        SPACES / "reverse_spans.toml", [f"task.corpus={corpus}", "task.context=8", "measure.repeats=3"]
    )
    result = retest(file, architectures=2, beside=0)
    assert 0 <= result["parts_median_difference"] <= result["parts_most_difference"] < math.inf
    assert set(result) == keys_of_json("nas bench latency")


def rounds_of(times, **metrics):
    """Rounds of one architecture with these times; every second one is beside trainers."""
    row = {"architecture_id": "a", "seconds": 0.5, "conditions": ["interval"]}
    return [
        [row | {"busy": bool(i % 2), "metrics": {"decode_ms_per_token": time, "contended": 0.0, **metrics}}]
        for i, time in enumerate(times)
    ]


def test_honest_intervals_cover_the_grand_median_and_those_of_a_drift_do_not():
    generator = np.random.default_rng(0)
    noise = np.exp(generator.normal(0, 0.01, 400))
    honest = summary(rounds_of(noise))
    assert honest["decode_ms_per_token_intervals"] == 396
    assert 0.9 <= honest["decode_ms_per_token_coverage"] <= 0.99
    assert honest["decode_ms_per_token_busy_difference"] < 0.005
    drift = summary(rounds_of(noise * np.linspace(1.0, 1.2, 400)))
    assert drift["decode_ms_per_token_coverage"] < 0.3
    assert honest["conditions"] == {"interval": 1.0}
    assert (honest["seconds"], honest["most_seconds"]) == (0.5, 0.5)


def test_intervals_within_a_run_are_judged_where_they_are_stored():
    told = summary(rounds_of([1.0] * 6, decode_ms_per_token_low=1.1, decode_ms_per_token_high=1.2))
    assert told["decode_ms_per_token_within_coverage"] == 0.0
    assert told["decode_ms_per_token_coverage"] == 1.0


def test_rounds_are_measured_by_turns_idle_and_beside_a_trainer(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    said = []
    result = coverage(settings(*TINY, f"task.corpus={corpus}"), 2, rounds=6, minutes=0.0, beside=0, say=said.append)
    assert len(said) == 6
    assert len(result["rows"]) == 12
    assert set(result) == keys_of_list(section("nas bench latency").split("With `--rounds`, the keys")[1])
