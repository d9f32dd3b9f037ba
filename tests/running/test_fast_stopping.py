"""The stopping rule keeps its state in arrays; its verdicts are those of the obvious rule, computed anew each time."""

import random

import numpy as np
import pytest

from nas.results import Constraint, Objective, Rung
from nas.running.learning_curves import Curve, CurveForecaster
from nas.running.stopping_rule import StoppingRule, TrialProgress, is_among_first, ordered
from tests.running.slow_stopping_rule import SlowStoppingRule

STEPS = (10, 20, 40, 80)
OBJECTIVES = (Objective("val_loss", "min"), Objective("val_accuracy", "max"), Objective("decode_ms_per_token", "min"))
LIMITS = (Constraint("train_seconds", max=90.0), Constraint("val_loss", max=3.5))


def progress(draw: random.Random) -> TrialProgress:
    """A trial at some rung, complete or not; some values are missing, not finite, or not positive."""
    reached, start, fall = draw.randint(1, 4), draw.uniform(1, 4), draw.uniform(0.7, 0.99)
    rungs = [
        Rung(
            step,
            float(step),
            {
                "val_loss": start * fall**i,
                "val_accuracy": draw.choice([0.1 * i, 0.1 * i + draw.random() / 9]),
                "train_seconds": step * draw.uniform(0.9, 1.2),
            },
        )
        for i, step in enumerate(STEPS[:reached])
    ]
    if draw.random() < 0.05:
        rungs[-1] = Rung(rungs[-1].step, 1.0, {"val_loss": draw.choice([float("nan"), -0.5, 2.0])})
    known = {"decode_ms_per_token": draw.choice([0.5, 1.0, 2.0, draw.random()])}
    complete = reached == len(STEPS)
    ends = {"val_accuracy": 0.3, "train_seconds": 90.0, **rungs[-1].metrics} if complete else {}
    return TrialProgress({**known, **ends}, rungs, complete, feasible=not complete or draw.random() < 0.8)


@pytest.mark.parametrize("limits", [(), LIMITS])
@pytest.mark.parametrize("seed", range(4))
def test_verdicts_are_those_of_the_obvious_rule(seed: int, limits: tuple[Constraint, ...]) -> None:
    draw = random.Random(seed)
    fast, slow = StoppingRule(OBJECTIVES, limits), SlowStoppingRule(OBJECTIVES, limits)
    found = []
    for _ in range(250):
        number = draw.randrange(180)
        if draw.random() < 0.05:
            fast.forget(number)
            slow.forget(number)
            continue
        told = progress(draw)
        fast.update(number, told)
        slow.update(number, told)
        if not told.complete:
            found.append((fast.verdict(number), slow.verdict(number)))
        values = [draw.uniform(1, 3), draw.random(), draw.random()]
        assert fast.dominated(values) == slow.dominated(values)
    assert [first for first, _ in found] == [second for _, second in found]
    assert {first is None for first, _ in found} == {True, False}


@pytest.mark.parametrize("seed", range(20))
def test_a_place_in_the_order_is_found_without_the_whole_order(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, 4 + seed, (30, 2 + seed % 2)).astype(float)
    order = ordered(rows)
    for count in (0.4, 3.0, 10.0, 10.3, 29.7, 30.0):
        assert [is_among_first(rows, own, count) for own in range(30)] == [
            order.index(own) < count for own in range(30)
        ]


@pytest.mark.parametrize(
    "whole", [[[3, 2, 1]] * 3, [[3.0 + i, 2.0 + i / 2, 1.0 + i / 3] for i in range(9)], [[3, -2, i] for i in range(8)]]
)
def test_many_curves_are_forecast_as_one_by_one(whole: list[list[float]]) -> None:
    forecaster = CurveForecaster(np.array(whole, dtype=float))
    curves = np.array(
        [[3, 2], [np.nan, 2], [2, np.nan], [-1, 2], [np.nan, -2], [5, 0], [np.inf, 1], [9, 8]], dtype=float
    )
    told = [forecaster.expected(Curve(*curve)) for curve in curves.tolist()]
    expected = [np.nan if value is None else value for value in told]
    assert forecaster.expected_ends(curves) == pytest.approx(expected, nan_ok=True)
