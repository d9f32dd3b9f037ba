"""Which part of an axis charts show: outliers do not squeeze the rest, and what is not shown is told."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas import pareto
from nas.report import words
from nas.report.summary import Summary
from nas.report.window import Window

USUAL = [2.0, 2.1, 2.2, 2.3, 2.4, 2.5]


@pytest.mark.parametrize(
    ("values", "low", "high", "log"),
    [
        (USUAL, 2.0, 2.5, False),
        ([*USUAL, 17.5], 2.0, 2.5, False),
        ([*USUAL, 700.0], 2.0, 2.5, False),  # the one outlier does not make the axis logarithmic either
        ([*USUAL, -40.0], 2.0, 2.5, False),
        ([*USUAL, 2.8], 2.0, 2.8, False),  # a little aside
        ([0.1, 1.0, 10.0, 100.0, 1000.0], 0.1, 1000.0, True),
        ([0.1, 0.3, 1.0, 3.0, 10.0, 1e9], 0.1, 10.0, True),
        ([0.0, 0.3, 1.0, 3.0, 10.0], 0.0, 10.0, False),  # zero has no logarithm
        ([1.0, 1.0, 1.0, 1.0, 9.0], 1.0, 9.0, False),  # no usual spread, so nothing is unusual
        ([1.0, 50.0, 3.0], 1.0, 50.0, True),  # too few to say
        ([5.0], 5.0, 5.0, False),
    ],
)
def test_what_is_shown(values, low, high, log):
    window = Window.of(values)
    assert (window.low, window.high, window.log) == (low, high, log)


def test_what_must_be_shown_is_shown_whatever_it_is():
    window = Window.of([*USUAL, 17.5, 40.0], kept=[17.5])
    assert (window.high, window.over) == (17.5, 1)


FINITE = st.floats(-1e9, 1e9, allow_nan=False)


@given(st.lists(FINITE, min_size=1, max_size=40), st.data())
def test_a_window_holds_what_it_must_and_counts_the_rest(values, data):
    kept = data.draw(st.lists(st.sampled_from(values), max_size=5))
    window = Window.of(values, kept)
    inside = [v for v in values if window.low <= v <= window.high]
    assert len(inside) + window.under + window.over == len(values)
    assert len(inside) >= len(values) / 2
    assert set(kept) <= set(inside)
    assert (window.least, window.most) == (min(values), max(values))
    assert window.whole == (len(inside) == len(values))
    low, high = window.limits()
    assert low < high
    assert low <= window.low <= window.high <= high


def test_what_lies_beyond_is_told():
    assert words.beyond(Window.of([*USUAL, 17.5, 703.2])) == ("", "2 trials up to 703.2")
    assert words.beyond(Window.of([*USUAL, -40.0])) == ("1 trial down to -40", "")
    assert words.beyond(Window.of(USUAL)) == ("", "")


def test_one_value_far_out_does_not_hide_how_the_hypervolume_grew(record):
    front = {trial.number for trial in pareto.front_of(record)}
    far = next(t for t in record.trials if t.eligible and t.number not in front)
    changed = replace(far, metrics={**far.metrics, "decode_ms_per_token": 1e6})
    outlier = replace(record, trials=tuple(changed if t is far else t for t in record.trials))
    usual, history = Summary.of(record).history, Summary.of(outlier).history
    assert history.reference[1] < 10 * usual.reference[1]
    assert history.volumes[0] < 0.9 * history.volumes[-1]
    assert all(
        history.reference[i] > t.metrics[o.metric]
        for t in Summary.of(outlier).front
        for i, o in enumerate(record.objectives)
    )
