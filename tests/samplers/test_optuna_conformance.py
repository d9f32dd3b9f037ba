"""Optuna's own conformance tests for samplers (optuna.testing.pytest_samplers).

`SingleOnlySamplerTestCase` is left out: it is for samplers that take one objective alone. Optuna gives it no docstring;
its one test is called `test_raise_error_for_samplers_during_multi_objectives`, and demands a ValueError of a study with
two directions, which `MultiObjectiveSamplerTestCase` demands to be sampled.
"""

from collections.abc import Callable

import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

import nas

pytestmark = pytest.mark.slow


class TestByDefault(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: nas.ParetoSampler(seed=0)


@pytest.mark.usefixtures("fast_kernels")
class TestWithAModelFromTheFourthTrialOn(BasicSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: nas.ParetoSampler(n_startup_trials=3, seed=0)
