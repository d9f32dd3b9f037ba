"""The bound of a prediction, against leaving each observation out in plain loops."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from nas.samplers import surrogate
from nas.samplers.gaussian_process import Process
from nas.samplers.hypervolume_improvement import LogNormal
from nas.samplers.prediction_bound import bound_of, left_out_sds
from nas.samplers.surrogate import Surrogate
from tests.samplers.test_gaussian_process import candidates, observations


def test_the_error_of_each_observation_given_all_others_is_that_of_leaving_it_out():
    features_ND = np.random.default_rng(0).normal(size=(12, 3))
    squared_NN = ((features_ND[:, None] - features_ND[None]) ** 2).sum(axis=2)
    cov_NN = np.exp(-squared_NN / 4) + 0.1 * np.eye(12)
    expected = []
    for i in range(12):
        others = [j for j in range(12) if j != i]
        between = cov_NN[i, others]
        known = between @ np.linalg.inv(cov_NN[np.ix_(others, others)]) @ between
        expected.append(math.sqrt(cov_NN[i, i] - known))
    np.testing.assert_allclose(left_out_sds(np.linalg.cholesky(cov_NN)), expected)


@pytest.mark.parametrize(("sd", "noise", "left_out", "width"), [(0.3, 0.4, 0.1, 0.5), (0.0, 0.0, 0.2, 0.2)])
def test_the_bound_lies_so_many_of_the_larger_error_below(sd, noise, left_out, width):
    prediction = LogNormal(np.array([0.5]), np.array([sd]), shift=1.0)
    for count, freedom in ((8, 3), (30, 25), (4, 1)):
        bound = bound_of(prediction, noise, np.full(6, left_out), count)
        assert bound[0] == pytest.approx(1.0 + math.exp(0.5 - student.ppf(0.99, freedom) * width))


def test_both_forms_of_the_surrogate_give_the_same_bounds_below_what_they_expect():
    seen = observations(40)
    found = surrogate.kernel(seen)
    ours, theirs = Process(seen, found), Surrogate(seen, found)
    np.testing.assert_allclose(ours.bound(candidates()), theirs.bound(candidates()), rtol=1e-6)
    assert (theirs.bound(candidates()) < theirs.predict(candidates()).below(2.33)).all()
