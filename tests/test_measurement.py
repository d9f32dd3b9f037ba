"""Intervals by order statistics, between runs by Student's t: each against its definition, and their coverage."""

import math
import random

import numpy as np
import pytest
from scipy import stats

from nas.measurement import (
    FEWEST_FOR_P95,
    FEWEST_ROUNDS,
    Interval,
    Measurement,
    between_runs,
    median_interval,
    upper_bound,
    with_later,
)


@pytest.mark.parametrize("n", [6, 7, 8, 9, 17, 59, 240, 999, 1000, 1001, 5000])
def test_the_interval_of_the_median_has_the_ranks_of_the_binomial(n):
    found = median_interval(random.Random(n).sample(range(1, n + 1), n))
    low, high = round(found.low), round(found.high)
    assert low + high == n + 1
    outside = 2 * stats.binom.cdf(low - 1, n, 0.5)
    assert outside <= 0.05 * (1 if n <= 1000 else 1.02)
    assert 2 * stats.binom.cdf(low, n, 0.5) > 0.05 or n > 1000


def test_fewer_than_six_values_have_no_interval():
    assert [median_interval(range(n)) is None for n in range(8)] == [n < FEWEST_ROUNDS for n in range(8)]


@pytest.mark.parametrize("n", [59, 60, 93, 240, 2400])
def test_the_bound_of_the_95th_percentile_is_the_smallest_order_statistic_that_has_it(n):
    rank = round(upper_bound(random.Random(n).sample(range(1, n + 1), n), 0.95))
    assert stats.binom.cdf(rank - 1, n, 0.95) >= 0.95 > stats.binom.cdf(rank - 2, n, 0.95)


def test_fewer_than_59_readings_bound_no_95th_percentile():
    assert [upper_bound(list(range(n)), 0.95) is None for n in (1, 20, 58, 59)] == [True, True, True, False]
    few, enough = (Measurement.of_rounds([[1.0]] * n).metrics("x") for n in (FEWEST_FOR_P95 - 1, FEWEST_FOR_P95))
    assert ("x_p95" in few, "x_p95" in enough) == (False, True)


def test_intervals_of_the_median_cover_it_whatever_the_distribution():
    """Skewed and heavy-tailed. Of 17 values, the interval has exactly 95.1 %."""
    generator = np.random.default_rng(0)
    for draw, middle in ((generator.lognormal, 1.0), (lambda size: generator.standard_cauchy(size), 0.0)):
        found = [median_interval(draw(size=17)) for _ in range(2000)]
        assert 0.935 <= np.mean([each.low <= middle <= each.high for each in found]) <= 0.966


def test_the_interval_between_runs_is_students_on_logarithms():
    medians = [1.0, 1.1, 0.95, 1.02, 1.3]
    logs = np.log(medians)
    low, high = stats.t.interval(0.95, 4, loc=logs.mean(), scale=stats.sem(logs))
    found = between_runs(medians)
    assert (found.low, found.high) == (pytest.approx(math.exp(low)), pytest.approx(math.exp(high)))
    assert (between_runs([]), between_runs([1.0]), between_runs([2.0, 2.0])) == (None, None, Interval(2.0, 2.0))
    with pytest.raises(ValueError, match="above 0"):
        between_runs([1.0, 0.0])


@pytest.mark.parametrize("blocks", [2, 5, 10])
def test_intervals_between_runs_cover_the_middle_of_all_runs(blocks):
    """A run is off by a common factor of 1 % (standard deviation), which its own rounds cannot show."""
    generator = np.random.default_rng(blocks)
    runs = np.exp(generator.normal(0, 0.01, (2000, blocks)))
    covered = np.mean([(found := between_runs(run)).low <= 1.0 <= found.high for run in runs])
    assert 0.93 <= covered <= 0.97


def test_a_measurement_of_rounds_is_the_median_of_their_medians():
    """The readings of a round grow, as a cache does, and one round is disturbed."""
    rounds = [[1.0 + 0.01 * i, 2.0, 3.0] for i in range(7)] + [[50.0, 60.0, 70.0]]
    found = Measurement.of_rounds(rounds)
    assert (found.median, found.within, found.count) == (2.0, Interval(2.0, 60.0), 24)
    assert found.metrics("x") == {
        **{"x": 2.0, "x_p10": found.p10, "x_p90": found.p90, "x_count": 24.0, "x_low": 2.0, "x_high": 60.0},
    }
    assert found.precision == 29.0
    assert math.isinf(Measurement.of_rounds(rounds[:5]).precision)
    for bad in ([], [[math.nan]]):
        with pytest.raises(ValueError, match="finite"):
            Measurement.of_rounds(bad)


def test_a_later_measurement_leaves_nothing_of_the_first():
    first = {"x": 1.0, "x_p95": 2.0, "x_best": 0.5, "x_total": 7.0, "val_loss": 3.0, "contended": 1.0}
    later = {"x": 1.2, "x_low": 1.1, "contended": 0.0}
    assert with_later(first, later) == {"x_total": 7.0, "val_loss": 3.0, **later}
    assert with_later(first, {}) == first
