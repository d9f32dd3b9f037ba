"""The surrogate's kernel: the one that scikit-learn's optimiser finds, with no warning to be ignored."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor

from nas.samplers import surrogate


def observations(noise: float) -> surrogate.Observations:
    """Twenty values along a smooth function; without noise, a parameter of the kernel ends at its bound."""
    generator = np.random.default_rng(0)
    features_ND = generator.random((20, 2))
    y_N = 1.0 + features_ND.sum(axis=1) + noise * generator.random(20)
    return surrogate.Observations(features_ND, y_N, np.zeros(20))


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_parameter_at_its_bound_is_an_answer_that_nothing_warns_of(noise, monkeypatch):
    """Warnings are errors in these tests. `fit` of scikit-learn itself warns, and finds the same."""
    ours = surrogate.kernel(observations(noise)).theta
    with monkeypatch.context() as patched:
        patched.setattr(surrogate, "_likeliest", lambda gp: gp.set_params(optimizer="fmin_l_bfgs_b"))
        theirs = surrogate.kernel(observations(noise))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            theirs.fit(theirs.X_train_, theirs.y_train_)
    assert isinstance(theirs, GaussianProcessRegressor)
    np.testing.assert_array_equal(ours, theirs.kernel_.theta)
