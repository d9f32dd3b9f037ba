"""Values far from all others are drawn near, in their order; all other sets of values stay as they are, bit for bit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.samplers.outliers import scale_of

USUAL = np.linspace(1.0, 3.0, 11)


@pytest.mark.parametrize(
    "values",
    [
        USUAL,
        np.geomspace(1e-9, 1e12, 40),
        np.random.default_rng(0).standard_cauchy(300),
        np.random.default_rng(0).normal(5e8, 1.0, size=50),
        np.array([0.1, 0.2, 0.25, 4.0]),  # few values may lie close together by chance
        np.array([2.0, 2.0 + 4e-16, 2.0 - 4e-16, 5.0]),  # rounding is no spread
        np.append(USUAL, [3.0 + 4e-10, 3.0 + 8e-10, 1.0 - 4e-10]),  # the worst and the best of them, nearly equal
        np.array([1e300] * 5),
        np.array([0.0] * 9 + [1.0]),
        np.array([]),
        np.array([math.nan, math.inf, 1.0, 2.0, 3.0]),
    ],
)
def test_usual_values_stay_as_they_are(values):
    scale = scale_of(values)
    np.testing.assert_array_equal(scale.apply(values), values)
    assert not scale.doubt(values).any()


@pytest.mark.parametrize("far", [1e3, 1e12, 1e300, 1.7e308])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_outlying_value_comes_near_and_the_others_stay(far, sign):
    values = np.append(USUAL, sign * far)
    scale = scale_of(values)
    near = scale.apply(values)
    np.testing.assert_array_equal(near[:-1], USUAL)
    assert 3 < near[-1] <= 5 if sign > 0 else -1 <= near[-1] < 1
    np.testing.assert_array_equal(scale.doubt(values), [0.0] * len(USUAL) + [2.0])
    assert [scale.outlying(value) for value in values] == [False] * len(USUAL) + [True]


def test_values_nearly_equal_to_the_edge_stay_beside_an_outlying_one():
    values = np.append(USUAL, [3.0 + 4e-10, 3.0 + 8e-10, 1e300])
    np.testing.assert_array_equal(scale_of(values).apply(values)[:-1], values[:-1])


def test_outlying_values_keep_their_order():
    values = np.concatenate([[-1e300, -1e30, -5e3], USUAL, [2e3, 1e5, 2e5, 1e12, 1e300]])
    near = scale_of(values).apply(values)
    assert (np.diff(near) > 0).all()
    assert near[0] >= -1
    assert near[-1] <= 5


def test_one_penalty_that_most_trials_have_is_still_outlying():
    values = np.append(USUAL, [1e9] * 40)
    assert scale_of(values).apply(values).max() < 5


def test_a_limit_stays_between_what_keeps_it_and_what_breaks_it():
    values = np.append(np.linspace(-3.0, -1.0, 11), 1e300)
    scale = scale_of(values, 0.0)
    assert scale.apply([-1.0])[0] < scale.apply([0.0])[0] < scale.apply([1e300])[0]


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=30))
def test_any_values_keep_their_order_and_stay_finite(values):
    ordered = np.sort(np.array(values))
    near = scale_of(ordered).apply(ordered)
    assert (near[1:] >= near[:-1]).all()
    assert np.array_equal(np.isfinite(near), np.isfinite(ordered))
