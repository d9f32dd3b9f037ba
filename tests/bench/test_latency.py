"""The retest of measuring runs, beside a real trainer; its figures depend on the machine and are not judged here."""

import math

from nas.bench.latency import TIMED, retest
from tests.search.tables import settings
from tests.search.test_driver import TINY


def test_tells_both_metrics_and_how_much_was_contended(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    result = retest(settings(*TINY, f"task.corpus={corpus}"), architectures=3, trainers=1)
    assert all(-1 <= result[f"{name}_spearman"] <= 1 for name in TIMED)
    assert all(math.isfinite(result[f"{name}_median_difference"]) for name in TIMED)
    assert 0 <= result["contended_idle"] <= 1
    assert 0 <= result["contended_busy"] <= 1
