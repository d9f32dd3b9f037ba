"""The fast Gaussian process against the surrogate of scikit-learn, which is its reference."""

import math

import numpy as np
import pytest

from nas.samplers import gaussian_process, surrogate
from nas.samplers.gaussian_process import Process
from nas.samplers.surrogate import Observations, Surrogate


def observations(count: int, noise: float = 0.1, columns: int = 4, seed: int = 0) -> Observations:
    """Values along a smooth function; every third is extrapolated and has a known error."""
    generator = np.random.default_rng(seed)
    features_ND = generator.normal(size=(count, columns))
    y_N = 3.0 + np.sin(features_ND).sum(axis=1) ** 2 + noise * generator.random(count)
    spread_N = np.where(np.arange(count) % 3 == 0, 0.05, 0.0)
    return Observations(features_ND, y_N, spread_N)


def candidates(count: int = 50, columns: int = 4) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(count, columns))


@pytest.mark.parametrize("noise", [0.0, 0.1, 2.0])
def test_the_likeliest_kernel_is_that_of_scikit_learn(noise):
    seen = observations(40, noise)
    ours, theirs = gaussian_process.kernel(seen), surrogate.kernel(seen)
    np.testing.assert_allclose(ours.theta, theirs.theta, atol=1e-3)


@pytest.mark.parametrize("least", [math.inf, 1.0])
def test_predictions_are_those_of_scikit_learn(least):
    seen = observations(40)
    found = surrogate.kernel(seen)
    ours, theirs = Process(seen, found, least), Surrogate(seen, found, least)
    for mine, other in zip(
        (*vars(ours.predict(candidates())).values(), ours.smoothed(candidates())),
        (*vars(theirs.predict(candidates())).values(), theirs.smoothed(candidates())),
        strict=True,
    ):
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-7)


def test_points_that_coincide_with_observations_are_predicted_like_them():
    seen = observations(30, noise=0.0)
    found = surrogate.kernel(seen)
    ours, theirs = Process(seen, found), Surrogate(seen, found)
    np.testing.assert_allclose(ours.smoothed(seen.features_ND), theirs.smoothed(seen.features_ND), rtol=1e-6)
    np.testing.assert_allclose(
        ours.predict(seen.features_ND).sd_C, theirs.predict(seen.features_ND).sd_C, rtol=1e-4, atol=1e-5
    )


def test_believed_points_change_no_expected_value_and_narrow_what_is_near():
    seen, rows_CD = observations(40), candidates()
    found = surrogate.kernel(seen)
    without, with_five = Process(seen, found), Process(seen, found, believed_BD=rows_CD[:5])
    np.testing.assert_allclose(with_five.predict(rows_CD).mean_C, without.predict(rows_CD).mean_C)
    assert (with_five.predict(rows_CD).sd_C <= without.predict(rows_CD).sd_C + 1e-12).all()
    assert (with_five.predict(rows_CD[:5]).sd_C < without.predict(rows_CD[:5]).sd_C).all()


def test_a_point_believed_in_later_is_one_that_was_believed_in_at_once():
    seen, rows_CD = observations(40), candidates()
    found = surrogate.kernel(seen)
    later = Process(seen, found, believed_BD=rows_CD[:2]).over(rows_CD)
    for index in (2, 3, 4):
        later.believe(index)
    at_once = Process(seen, found, believed_BD=rows_CD[:5]).over(rows_CD)
    np.testing.assert_allclose(later.prediction().sd_C, at_once.prediction().sd_C, rtol=1e-6)
    np.testing.assert_allclose(later.prediction().mean_C, at_once.prediction().mean_C)
    assert later.median(9) == pytest.approx(float(Process(seen, found).smoothed(rows_CD[[9]])[0]))
    np.testing.assert_allclose(later.prediction(np.array([3, 9])).sd_C, later.prediction().sd_C[[3, 9]])


def test_features_far_from_zero_lose_no_distance():
    seen = observations(30)
    moved = Observations(seen.features_ND + 1e4, seen.y_N, seen.spread_N)
    found = surrogate.kernel(seen)
    here, there = Process(seen, found).predict(candidates()), Process(moved, found).predict(candidates() + 1e4)
    np.testing.assert_allclose(there.mean_C, here.mean_C, rtol=1e-5, atol=1e-6)
