"""Where learning curves may end: what is told from whole ones, and when nothing is."""

import math

import numpy as np
import pytest

from nas.running.learning_curves import FEWEST, Curve, CurveForecaster, Forecast

NAN = math.nan


def forecast(curve: Curve, rows: np.ndarray) -> Forecast | None:
    told, expected = CurveForecaster(rows).forecast(curve), CurveForecaster(rows).expected(curve)
    assert expected == (told and told.expected)
    return told


def whole(gains: list[float], last: list[float] | None = None, at: float = 2.0) -> np.ndarray:
    """Curves that stood at `at`, gained so much (in logarithms) after it, and `last` before it."""
    before = [NAN] * len(gains) if last is None else [at / math.exp(gain) for gain in last]
    return np.array([[b, at, at * math.exp(gain)] for b, gain in zip(before, gains, strict=True)])


def test_a_few_curves_tell_nothing():
    assert forecast(Curve(NAN, 2.0), whole([-0.1] * (FEWEST - 1))) is None
    assert forecast(Curve(NAN, 2.0), whole([-0.1] * FEWEST)) is not None


@pytest.mark.parametrize("value", [NAN, math.inf])
def test_a_value_that_is_not_finite_tells_nothing(value):
    assert forecast(Curve(NAN, value), whole([-0.1] * 10)) is None


def test_curves_that_are_not_finite_are_left_out():
    rows = np.vstack([whole([-0.1] * FEWEST), [[NAN, math.inf, 1.0]], [[NAN, 2.0, NAN]]])
    assert forecast(Curve(NAN, 2.0), rows) == forecast(Curve(NAN, 2.0), rows[:FEWEST])


def test_equal_gains_leave_no_doubt():
    told = forecast(Curve(NAN, 3.0), whole([math.log(0.8)] * 10))
    assert (told.low, told.expected, told.high) == pytest.approx((2.4, 2.4, 2.4))


def test_the_own_last_gain_tells_the_next():
    last = [-0.1 * i for i in range(8)]
    rows = whole([gain / 2 for gain in last], last)
    told = forecast(Curve(1.0, math.exp(-0.33)), rows)
    assert told.expected == pytest.approx(math.exp(-0.33 - 0.165))


def test_bounds_hold_back_about_one_in_twenty_at_each_side():
    generator = np.random.default_rng(0)
    below = above = 0
    for _ in range(600):
        last = generator.uniform(-0.4, -0.1, 13)
        gains = 0.5 * last + generator.normal(0, 0.02, 13)
        rows = whole(list(gains[:12]), list(last[:12]))
        end = 2.0 * math.exp(gains[12])
        told = forecast(Curve(2.0 / math.exp(last[12]), 2.0), rows)
        assert told.low <= told.expected <= told.high
        below += end < told.low
        above += end > told.high
    assert 0.01 < below / 600 < 0.06
    assert 0.01 < above / 600 < 0.06


def test_bounds_are_wide_while_little_is_known_and_for_an_odd_curve():
    gains, last = [-0.10, -0.10, -0.12, -0.12] * 6, [-0.20, -0.24] * 12
    usual = Curve(2.0 / math.exp(-0.23), 2.0)

    def width(curve, count):
        told = forecast(curve, whole(gains[:count], last[:count]))
        return math.log(told.high / told.low)

    assert width(usual, 6) > 1.2 * width(usual, 24)
    assert width(Curve(2.0 / math.exp(-0.9), 2.0), 24) > 2 * width(usual, 24)


def test_last_gains_that_differ_by_rounding_alone_tell_nothing():
    scales = [1.0 + 0.1 * i for i in range(12)]
    rows = np.array([[2.0 * c, 1.6 * c, (1.2 + 0.01 * (i % 4)) * c] for i, c in enumerate(scales)])
    told = forecast(Curve(2.0, 1.7), rows)
    assert 1.2 < told.low < told.high < 1.4


def test_what_falls_late_is_believed_to_do_so_once_one_was_seen_whole_and_only_of_its_kind():
    usual = np.array([[2.5 + 0.01 * i, 2.0, 1.7 + 0.01 * (i % 5)] for i in range(20)])
    bloomer = np.array([[2.9, 2.85, 1.4]])
    alike = Curve(2.91, 2.86)
    assert forecast(alike, usual).low > 2.0
    assert forecast(alike, np.vstack([usual, bloomer])).low < 1.45
    assert forecast(Curve(2.6, 2.0), np.vstack([usual, bloomer])).low > 1.2


def test_values_of_zero_gain_by_differences():
    rows = np.array([[NAN, 0.0, 0.3], [NAN, 0.1, 0.4], *[[NAN, 0.2, 0.5]] * 6])
    told = forecast(Curve(NAN, 0.0), rows)
    assert (told.low, told.expected, told.high) == pytest.approx((0.3, 0.3, 0.3))
