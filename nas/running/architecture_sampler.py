"""Builds the pareto sampler for a study's space: the features of architectures, and the quantities known without
measuring.

In a space of parameters, the features are the parameters, and nothing is known beforehand.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nas.architecture import Architecture
from nas.results import Constraint, Objective
from nas.running.architecture_features import Describe, Features
from nas.samplers.pareto_sampler import ParetoSampler
from nas.space.architecture_space import Space
from nas.space.parameter_space import Design, SearchSpace

STARTUP_TRIALS = 4
"""After so few trials the model beats filling the space, since parameters and FLOPs are among the features."""
LOGARITHMIC_UNITS = ("nats/token", "bits", "ms", "MiB", "FLOP", "mJ", "s")
"""Halving a loss, a time or a size is worth the same at any level. This does not hold for shares of right answers; and
a decode state (KiB) may be 0, which has no logarithm.
"""


def is_logarithmic(objective: Objective) -> bool:
    """Tells whether ratios of the objective count; for a metric of the study's own, its declaration says so."""
    if objective.own:
        return objective.own.log
    return objective.goal == "min" and (objective.unit in LOGARITHMIC_UNITS or objective.metric == "params")


@dataclass(frozen=True)
class Choice:
    """Holds what is chosen for a trial."""

    architecture: Design
    learning_rate: float | None


def pareto_sampler(
    space: SearchSpace,
    suggest: Callable[[Any], Choice],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    describe: Describe | None,
    seed: int,
) -> ParetoSampler:
    """Builds the sampler. `describe` computes what is known of an architecture without building it
    (nas.measure.costs).
    """
    if not isinstance(space, Space):
        scales = [is_logarithmic(o) for o in objectives]
        return ParetoSampler(suggest, logarithmic=scales, seed=seed)
    known = frozenset(describe(space.sample(random.Random(seed)))) if describe else frozenset[str]()
    features = Features(space, describe, seed)

    def row(choice: Choice) -> list[float]:
        rate = choice.learning_rate
        return features(_architecture(choice)) + ([math.log2(rate)] if rate else [])

    def told(choice: Choice) -> Mapping[str, float]:
        return describe(_architecture(choice)) if describe else {}

    def value(metric: str, choice: Choice) -> float:
        return told(choice).get(metric, math.nan)

    def violation(constraint: Constraint, choice: Choice) -> float:
        return constraint.violation(told(choice))

    return ParetoSampler(
        suggest,
        cheap={i: partial(value, o.metric) for i, o in enumerate(objectives) if o.metric in known},
        limits={c.metric: partial(violation, c) for c in constraints if c.metric in known},
        features=row,
        cost=(lambda choice: told(choice)["flops_per_token"]) if "flops_per_token" in known else None,
        logarithmic=[is_logarithmic(o) for o in objectives],
        n_startup_trials=STARTUP_TRIALS,
        seed=seed,
    )


def _architecture(choice: Choice) -> Architecture:
    assert isinstance(choice.architecture, Architecture)
    return choice.architecture
