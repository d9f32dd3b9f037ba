"""Dominance against its definition, hypervolume against counted boxes."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas import pareto
from nas.results import Objective, State, StudyRecord, TrialResult

GOALS = ("min", "max", "min")
ROWS = st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=20)


def dominates(a, b) -> bool:
    signed = [(x, y) if goal == "min" else (-x, -y) for x, y, goal in zip(a, b, GOALS, strict=True)]
    return all(x <= y for x, y in signed) and any(x < y for x, y in signed)


@given(ROWS)
def test_the_front_is_what_nothing_dominates_and_equal_rows_count_once(rows):
    expected = [
        i for i, row in enumerate(rows) if not any(dominates(other, row) for other in rows) and row not in rows[:i]
    ]
    assert pareto.front(np.array(rows, dtype=float).reshape(-1, 3), GOALS) == expected


@given(ROWS)
def test_hypervolume_is_the_number_of_unit_boxes_dominated(rows):
    reference = (6, -1, 6)
    boxes = sum(
        any(x >= a and y < b and z >= c for a, b, c in rows)
        for x, y, z in itertools.product(range(6), range(-1, 5), range(6))
    )
    values = np.array(rows, dtype=float).reshape(-1, 3)
    assert pareto.hypervolume(values, GOALS, reference) == pytest.approx(boxes)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad):
    for function in (pareto.front, pareto.reference_point, pareto.knee):
        with pytest.raises(ValueError, match="finite"):
            function([[1.0, bad]], ["min", "min"])


def test_the_reference_point_is_worse_than_every_row():
    assert pareto.reference_point([[1, 10], [2, 20]], ["min", "max"]) == pytest.approx([2.1, 9])
    assert pareto.hypervolume([[3.0, 3.0]], ["min", "min"], pareto.reference_point([[3, 3]], ["min", "min"])) > 0


def test_the_knee_is_nearest_to_the_best_of_everything():
    assert pareto.knee([[0, 10], [1, 1], [10, 0]], ["min", "min"]) == 1
    assert pareto.knee(np.empty((0, 2)), ["min", "min"]) is None


def test_only_finished_feasible_and_finite_trials_stand_on_the_front_of_a_study():
    def trial(number, state, loss, **more):
        metrics = {"val_loss": loss, "params": 1.0}
        return TrialResult(number, state, str(number), {}, metrics=metrics, **more)

    trials = (
        trial(0, State.COMPLETE, 3.0),
        trial(1, State.PRUNED, 1.0),
        trial(2, State.COMPLETE, 2.0, violations={"weights_mib": 0.5}),
        trial(3, State.COMPLETE, float("nan")),
        trial(4, State.FAIL, 0.0),
        trial(5, State.COMPLETE, 2.5, violations={"weights_mib": -0.5}),
        trial(6, State.RUNNING, 0.1),
    )
    objectives = (Objective("val_loss", "min"), Objective("params", "min"))
    record = StudyRecord("s", objectives, (), trials, {}, {}, {}, 10, 0.0)
    assert [t.number for t in pareto.front_of(record)] == [5]
    assert pareto.front_of(StudyRecord("s", objectives, (), (), {}, {}, {}, 10, 0.0)) == ()
