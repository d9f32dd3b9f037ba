"""The retest of measuring runs, once beside a real trainer. Its figures depend on the machine and are not judged."""

import math
from pathlib import Path

import pytest

from nas.bench.latency import TIMED, retest
from nas.settings import study_file
from tests.documented import keys_of_json
from tests.running.tables import settings
from tests.running.test_driver import TINY

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_search")]
SPACES = Path(__file__).parents[2] / "search_spaces"


def test_tells_both_metrics_and_how_much_was_contended(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    result = retest(settings(*TINY, f"task.corpus={corpus}"), architectures=3, trainers=1)
    assert all(-1 <= result[f"{name}_spearman"] <= 1 for name in TIMED)
    assert all(math.isfinite(result[f"{name}_median_difference"]) for name in TIMED)
    assert 0 <= result["contended_idle"] <= 1
    assert 0 <= result["contended_busy"] <= 1
    assert set(result) == {key for key in keys_of_json("nas bench latency") if not key.startswith("parts_")}


def test_encoders_have_no_decoding_to_compare():
    file = study_file.load(SPACES / "list_ops.toml", ["measure.repeats=3", "train.batch=2"])
    result = retest(file, architectures=2, trainers=0)
    assert "prefill_ms_spearman" in result
    assert "decode_ms_per_token_spearman" not in result


def test_whole_answers_are_told_beside_their_parts(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    file = study_file.load(
        SPACES / "reverse_spans.toml", [f"task.corpus={corpus}", "task.context=8", "measure.repeats=3"]
    )
    result = retest(file, architectures=2, trainers=0)
    assert 0 <= result["parts_median_difference"] <= result["parts_most_difference"] < math.inf
    assert set(result) == keys_of_json("nas bench latency")
