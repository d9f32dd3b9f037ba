"""Lines from rung to end: against least squares by NumPy, with few trials, without spread."""

import numpy as np
import pytest

from nas.samplers.rung_regression import LEAST_SPREAD, STEEPEST, RungRegression


def curves(pairs, budget=1.0) -> RungRegression:
    found = RungRegression()
    for value, final in pairs:
        found.add(budget, value, final)
    return found


def test_a_rung_that_fewer_than_two_trials_tell_of_says_nothing():
    assert RungRegression().line(1.0) is None
    assert curves([(3.0, 2.0)]).line(1.0) is None
    assert curves([(3.0, 2.0), (4.0, 3.0)]).line(2.0) is None


def test_few_trials_give_an_offset_and_how_far_it_holds():
    line = curves([(3.0, 2.0), (4.0, 2.6), (5.0, 4.4)]).line(1.0)
    offsets = np.array([-1.0, -1.4, -0.6])
    assert (line.slope, line.offset) == pytest.approx((1.0, offsets.mean()))
    assert line.spread == pytest.approx(offsets.std(ddof=1))


@pytest.mark.parametrize("distance", [0.0, 1e6])
def test_more_trials_give_the_line_of_least_squares(distance):
    generator = np.random.default_rng(0)
    at_rung = distance + generator.normal(size=30)
    final = 2 + 0.6 * (at_rung - distance) + 0.1 * generator.normal(size=30)
    line = curves(zip(at_rung.tolist(), final.tolist(), strict=True)).line(1.0)
    slope, offset = np.polyfit(at_rung - distance, final, 1)
    residual = final - offset - slope * (at_rung - distance)
    assert line.slope == pytest.approx(slope, rel=1e-6)
    assert line.offset + line.slope * distance == pytest.approx(offset, rel=1e-6)
    assert line.spread == pytest.approx(np.sqrt((residual**2).sum() / 28), rel=1e-6)


@pytest.mark.parametrize(("true", "told"), [(-2.0, 0.0), (5.0, STEEPEST)])
def test_no_slope_is_beyond_reason(true, told):
    at_rung = np.arange(10.0)
    line = curves(zip(at_rung.tolist(), (true * at_rung).tolist(), strict=True)).line(1.0)
    assert line.slope == told
    assert line.spread > 1


def test_a_rung_without_spread_tells_the_mean():
    line = curves([(3.0, 1.0), (3.0, 2.0), (3.0, 3.0), (3.0, 1.0), (3.0, 3.0), (3.0, 2.0)]).line(1.0)
    assert line.offset + line.slope * 3.0 == pytest.approx(2.0)
    assert line.spread == pytest.approx(np.std([1, 2, 3, 1, 3, 2], ddof=1))


def test_what_always_fits_is_not_trusted_without_end():
    line = curves([(x, x) for x in np.linspace(0, 1, 9).tolist()]).line(1.0)
    assert line.spread >= LEAST_SPREAD


@pytest.mark.parametrize("broken", [(1e300, 2.0), (3.0, -1e300), (1e300, 1e300), (-1e12, 1e30)])
def test_a_trial_with_an_outlying_value_has_no_part_in_the_line(broken):
    usual = [(3.0 + x, 2.0 + 0.5 * x + 0.1 * (-1) ** i) for i, x in enumerate(np.linspace(0, 2, 12).tolist())]
    expected, line = curves(usual).line(1.0), curves([*usual[:4], broken, *usual[4:]]).line(1.0)
    assert (line.offset, line.slope, line.spread) == (expected.offset, expected.slope, expected.spread)
    assert 2.0 < line.at(np.array(1e300)) < 5.0 or broken[0] < 1e6


def test_each_rung_has_its_own_line():
    found = RungRegression()
    for final in (1.0, 2.0, 3.0):
        found.add(1.0, final + 2, final)
        found.add(2.0, final + 1, final)
    assert [found.line(budget).offset for budget in (1.0, 2.0)] == pytest.approx([-2.0, -1.0])
