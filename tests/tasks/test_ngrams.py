"""The vectorised n-grams are those of the definition, and reproduce the figures known for real texts."""

import math
import tracemalloc
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.tasks import ngrams

ORDERS = 4


def reference(text: str, train: tuple[int, int], evaluated: tuple[int, int], vocabulary: int) -> list[float]:
    """The definition, one character at a time, in dictionaries."""
    seen: list[defaultdict[str, Counter[str]]] = [defaultdict(Counter) for _ in range(ORDERS)]
    for n in range(1, ORDERS + 1):
        for i in range(*train):
            seen[n - 1][text[max(0, i - n + 1) : i]][text[i]] += 1

    def probability(n: int, i: int) -> float:
        if n == 0:
            return 1 / vocabulary
        after = seen[n - 1][text[max(0, i - n + 1) : i]]
        lower, types = probability(n - 1, i), len(after)
        return (after[text[i]] + types * lower) / (after.total() + types) if after else lower

    span = range(*evaluated)
    return [-sum(math.log(probability(n, i)) for i in span) / len(span) for n in range(1, ORDERS + 1)]


def numbers(text: str) -> np.ndarray:
    return np.array([sorted(set(text)).index(c) for c in text], dtype=np.int64)


@given(st.text("abcd", min_size=2, max_size=60), st.data())
def test_equal_the_definition(text: str, data: st.DataObject) -> None:
    end = data.draw(st.integers(1, len(text) - 1))
    start = data.draw(st.integers(end, len(text) - 1))
    spans = (0, end), (start, len(text))
    fast = ngrams.losses(numbers(text), *spans, vocabulary=len(set(text)), orders=ORDERS)
    assert fast == pytest.approx(reference(text, *spans, len(set(text))))


@given(st.text("abc", min_size=6, max_size=6), st.text("abc", min_size=1, max_size=4))
def test_probabilities_add_up_to_one(text: str, context: str) -> None:
    total = np.zeros(ORDERS)
    for symbol in "abc":
        tokens = np.array(["abc".index(c) for c in text + context + symbol], dtype=np.int64)
        last = len(tokens) - 1
        total += np.exp(-np.array(ngrams.losses(tokens, (0, 6), (last, last + 1), vocabulary=3, orders=ORDERS)))
    assert total == pytest.approx(np.ones(ORDERS))


def test_small_numbers_from_a_first_one_on_and_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.random.default_rng(0).integers(0, 5, 2000)
    spans = (0, 1500), (1600, 2000)
    whole = ngrams.losses(tokens, *spans, vocabulary=5)
    monkeypatch.setattr(ngrams, "AT_ONCE", 7)
    assert ngrams.losses((tokens + 3).astype("<u2"), *spans, vocabulary=5, low=3) == whole


def test_the_memory_grows_by_a_few_bytes_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "AT_ONCE", 2**12)
    tokens = np.random.default_rng(0).integers(0, 50, 2**18).astype("<u2")
    tracemalloc.start()
    try:
        ngrams.losses(tokens, (0, 200_000), (230_000, len(tokens)), vocabulary=50)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60 * len(tokens)


def test_a_large_vocabulary_does_not_overflow() -> None:
    tokens = np.arange(30_000, dtype=np.int64) % 20_000
    losses = ngrams.losses(tokens, (0, 25_000), (25_000, 30_000), vocabulary=20_000)
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    assert losses[1] < 1 < losses[0]
