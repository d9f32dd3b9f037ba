"""Which trials are confirmed: the front within the limits, and what it dominates by a little."""

import numpy as np
import pytest

from nas.errors import NothingFeasible, UsageError
from nas.results import Objective, State, StudyRecord, TrialResult
from nas.running.confirmed_trials import chosen, distances

OBJECTIVES = (Objective("val_loss", "min"), Objective("params", "min"))


def record(*values, states=()):
    trials = []
    for number, (loss, params) in enumerate(values):
        state = dict(states).get(number, State.COMPLETE)
        metrics = {"val_loss": loss, "params": params}
        trials.append(TrialResult(number, state, f"id{number}", {"hidden": 8}, metrics=metrics))
    return StudyRecord("s", OBJECTIVES, (), tuple(trials), {}, {}, {}, 10, 0.0)


def numbers(trials):
    return [trial.number for trial in trials]


def test_the_front_is_confirmed_and_the_nearest_half_as_many():
    front = [(1.0, 100.0), (2.0, 50.0), (3.0, 0.0)]
    near = [(1.06, 103.0), (2.02, 51.0), (3.01, 0.5), (2.5, 80.0)]
    found = chosen(record(*front, *near))
    assert numbers(found.front) == [0, 1, 2]
    assert numbers(found.near) == [5, 4]  # the range is 2 by 100: .005 and .01 of it, before .03
    assert numbers(found.trials) == [0, 1, 2, 5, 4]


def test_what_is_dominated_by_far_stopped_or_over_a_limit_is_not_confirmed():
    found = chosen(record((1.0, 100.0), (3.0, 0.0), (1.01, 100.0), (2.9, 150.0), states={2: State.PRUNED}.items()))
    assert numbers(found.trials) == [0, 1]
    within = chosen(record((1.0, 100.0), (2.0, 50.0), (3.0, 0.0)), ["params<=60"])
    assert numbers(within.trials) == [1, 2]


def test_an_empty_front_and_an_unknown_metric_are_refused():
    with pytest.raises(NothingFeasible, match="no trial of study 's' is complete and feasible"):
        chosen(record((1.0, 2.0), states={0: State.FAIL}.items()))
    with pytest.raises(NothingFeasible, match="within params <= 1"):
        chosen(record((1.0, 2.0)), ["params<=1"])
    with pytest.raises(UsageError, match="unknown metric 'speed'"):
        chosen(record((1.0, 2.0)), ["speed<=1"])


def test_the_distance_is_the_least_improvement_after_which_nothing_dominates():
    rng = np.random.default_rng(0)
    front = [(0.0, 1.0, 0.5), (0.5, 0.5, 0.0), (1.0, 0.0, 1.0)]
    others = rng.uniform(0, 2, (40, 3))
    for other, distance in zip(others, distances(others, front, ["min"] * 3), strict=True):
        after = lambda step, other=other: any(all(f <= other - step) for f in np.array(front))  # noqa: E731
        assert not after(distance + 1e-9)
        assert distance == 0 or after(distance - 1e-9)


def test_goals_and_objectives_of_one_value_are_taken_into_account():
    assert distances([(0.9, 3.0)], [(1.0, 3.0)], ["max", "min"]) == [pytest.approx(1.0)]
    assert distances([(2.0, 3.0)], [(1.0, 3.0), (3.0, 3.0)], ["min", "min"]) == [pytest.approx(0.5)]
