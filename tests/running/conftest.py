"""What several tests of running a study share."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from scipy.optimize import minimize

from nas.running import architecture_features
from nas.samplers import pareto_sampler, surrogate


def few_steps(objective: Callable, start, bounds) -> tuple:
    """Fits a kernel in at most six steps instead of until it converges."""
    found = minimize(objective, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": 6})
    return found.x, found.fun


@pytest.fixture(scope="module")
def quick_proposals() -> Iterator[None]:
    """Pools of a tenth of their size, and short fits: some tests make hundreds of samplers, each of which begins anew.

    For tests of what is done with proposals, not of how good they are.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, size in {"BASE_POOL": 60, "FRESH": 20, "NEIGHBOURS": 20}.items():
            patch.setattr(pareto_sampler, name, size)
        patch.setattr(architecture_features, "SAMPLES", 50)
        regressor = partial(surrogate.GaussianProcessRegressor, optimizer=few_steps)
        patch.setattr(surrogate, "GaussianProcessRegressor", regressor)
        yield
