"""Optuna's own conformance tests for samplers (optuna.testing.pytest_samplers).

`SingleOnlySamplerTestCase` is left out: it demands that a sampler refuses several objectives, as the opposite of
`MultiObjectiveSamplerTestCase`.
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

pytestmark = pytest.mark.slow


class TestByDefault(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: nas.ParetoSampler(seed=0)


class TestWithAModelFromTheFourthTrialOn(BasicSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: nas.ParetoSampler(n_startup_trials=3, seed=0)
