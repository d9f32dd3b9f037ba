"""A table of 160 configurations whose best trade-offs are known, and searches of it by the pareto sampler."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import moocore
import numpy as np
import optuna

from nas.samplers.pareto_sampler import ParetoSampler

optuna.logging.set_verbosity(optuna.logging.WARNING)

KINDS = ("a", "b", "c", "d", "e")
Params = dict[str, Any]


def space(chooser: Any) -> Params:
    return {
        "kind": chooser.suggest_categorical("kind", KINDS),
        "heads": chooser.suggest_categorical("heads", [1, 2, 4, 8]),
        "depth": chooser.suggest_int("depth", 1, 4),
        "gate": chooser.suggest_categorical("gate", [False, True]),
    }


def error(params: Params) -> float:
    """Deeper models with more heads are better, and so is the middle kind."""
    kind = KINDS.index(params["kind"])
    return 1 + 0.15 * (kind - 2) ** 2 + 1 / params["depth"] + 0.3 / params["heads"] - 0.1 * params["gate"]


def latency(params: Params) -> float:
    return 0.2 + params["depth"] * (1 + 0.1 * params["heads"] + 0.2 * params["gate"]) * (
        1.1 ** KINDS.index(params["kind"])
    )


def both(params: Params) -> tuple[float, float]:
    return error(params), latency(params)


def quick(space: Any = space, **options: Any) -> ParetoSampler:
    return ParetoSampler(space, **{"n_startup_trials": 5, "seed": 0, **options})


def known(**options: Any) -> ParetoSampler:
    """With the latency known beforehand, which halves the work."""
    return quick(cheap={1: latency}, **options)


def study_of(sampler: Any, objectives: int = 2, **options: Any) -> optuna.Study:
    options.setdefault("directions", ["minimize"] * objectives)
    return optuna.create_study(sampler=sampler, **options)


def search(
    study: optuna.Study, values: Callable[[Params], Any], count: int, space: Callable[[Any], Params] = space
) -> list[Params]:
    """So many trials; what was proposed."""
    proposed = []
    for _ in range(count):
        trial = study.ask()
        proposed.append(space(trial))
        study.tell(trial, values(proposed[-1]))
    return proposed


def distinct(proposed: Sequence[Params]) -> int:
    return len({tuple(sorted(params.items())) for params in proposed})


class EveryChoice:
    def __init__(self, choices: Sequence[Any]) -> None:
        self.choices = iter(choices)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return next(self.choices)

    def suggest_int(self, name: str, low: int, high: int) -> Any:
        return next(self.choices)


TABLE = [space(EveryChoice(c)) for c in itertools.product(KINDS, (1, 2, 4, 8), range(1, 5), (False, True))]


def share_of_hypervolume(proposed: Sequence[Params]) -> float:
    values, reference = np.array([both(params) for params in TABLE]), (3.0, 12.0)
    found = np.array([both(params) for params in proposed])
    return moocore.hypervolume(found, ref=reference) / moocore.hypervolume(values, ref=reference)


def tree(chooser: Any) -> Params:
    """What there is to choose depends on the kind."""
    kind = chooser.suggest_categorical("kind", ["wide", "deep", "tiny"])
    chosen = {"kind": kind, "rate": chooser.suggest_float("rate", 1e-4, 1e-1, log=True)}
    if kind == "wide":
        chosen["width"] = chooser.suggest_int("width", 8, 64, step=8)
    elif kind == "deep":
        chosen |= {"depth": chooser.suggest_int("depth", 1, 6), "drop": chooser.suggest_float("drop", 0, 0.5, step=0.1)}
    return chosen


def of_tree(params: Params) -> tuple[float, float]:
    size = params.get("width", 0) / 16 + params.get("depth", 0)
    return 3 - 0.4 * size**0.7 + abs(math.log10(params["rate"]) + 2) + params.get("drop", 0), 0.1 + size


def constrained(study: optuna.Study, violation: Callable[[Params], float], count: int) -> list[Params]:
    proposed = []
    for _ in range(count):
        trial = study.ask()
        proposed.append(space(trial))
        trial.set_constraint("limit", violation(proposed[-1]))
        study.tell(trial, both(proposed[-1]))
    return proposed
