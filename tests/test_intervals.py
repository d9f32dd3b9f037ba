"""Time with its pauses left out."""

import math

import pytest

from nas import intervals


@pytest.mark.parametrize(
    ("spans", "merged", "seconds"),
    [
        ([], [], 0),
        ([(1, 3)], [(1, 3)], 2),
        ([(5, 9), (1, 3)], [(1, 3), (5, 9)], 6),
        ([(1, 4), (2, 3), (4, 6)], [(1, 6)], 5),
        ([(3, 1), (7, 7)], [(7, 7)], 0),
    ],
)
def test_a_union_counts_each_moment_once(spans, merged, seconds):
    assert intervals.union(spans) == merged
    assert intervals.seconds(spans) == seconds


def test_only_what_lies_before_a_moment_counts():
    spans = [(0, 10), (100, 110)]
    assert [intervals.seconds(spans, until) for until in (-1, 4, 50, 105, math.inf)] == [0, 4, 10, 15, 20]


@pytest.mark.parametrize(
    ("stored", "finished", "spans"),
    [
        ([], 50, ()),
        ([[10, None]], 50, ((10, 50),)),
        ([[10, 20], [1030, None]], 1040, ((10, 20), (1030, 1040))),
        # Killed: until its driver was last seen, at 100.
        ([[10, None], [1030, None]], 1040, ((10, 100), (1030, 1040))),
        # Its worker died, and the same driver began it again at 60.
        ([[10, None], [60, None]], 90, ((10, 60), (60, 90))),
        # Still under way.
        ([[1030, None]], None, ((1030, 1100),)),
        # A driver that was never seen again.
        ([[500, None]], None, ((500, 500),)),
    ],
)
def test_an_attempt_lasts_until_it_is_put_back_or_its_driver_was_last_seen(stored, finished, spans):
    assert intervals.attempts(stored, finished, [(0, 100), (1000, 1100)]) == spans


def test_many_moments_at_once_are_each_as_one_alone():
    spans, moments = [(10.0, 20.0), (15.0, 30.0), (50.0, 60.0)], [0.0, 10.0, 12.5, 30.0, 40.0, 55.0, 99.0]
    expected = [intervals.seconds(spans, moment) for moment in moments]
    assert intervals.seconds_before(spans, moments) == pytest.approx(expected)
