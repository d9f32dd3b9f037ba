"""Dominance against its definition, hypervolume against counted boxes."""

import itertools

import moocore
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


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@given(data=st.data())
def test_a_growing_hypervolume_is_that_of_each_prefix(objectives, data):
    goals = ("min", "max", "min", "max")[:objectives]
    reference = (4.0, 1.0, 4.0, 1.0)[:objectives]  # some rows lie beyond it
    rows = data.draw(st.lists(st.tuples(*[st.integers(0, 5)] * objectives), max_size=16))
    growing, front = pareto.GrowingHypervolume(goals, reference), pareto.GrowingFront(goals)
    for i, row in enumerate(rows, start=1):
        prefix = np.array(rows[:i], dtype=float)
        within = [
            r
            for r in prefix
            if all(a < b if g == "min" else a > b for a, b, g in zip(r, reference, goals, strict=True))
        ]
        slow = pareto.hypervolume(np.array(within).reshape(-1, objectives), goals, reference)
        assert growing.add(row) == pytest.approx(slow)
        members = {rows[k] for k in pareto.front(prefix, goals)}
        assert front.add(row) == (row in members and row not in rows[: i - 1])
        assert len(front) == len(members)
        assert front.reference_point() == pytest.approx(pareto.reference_point(prefix, goals))
        whole = pareto.reference_point(prefix, goals)
        assert front.hypervolume(whole) == pytest.approx(pareto.hypervolume(prefix, goals, whole))


def points_handed(monkeypatch, values, goals) -> int:
    """How many points the hypervolume algorithm gets in all while the set grows by these rows."""
    handed: list[int] = []
    original = moocore.hypervolume
    with monkeypatch.context() as patched:
        patched.setattr(moocore, "hypervolume", lambda rows, ref: handed.append(len(rows)) or original(rows, ref=ref))
        growing = pareto.GrowingHypervolume(goals, [2.0] * len(goals))
        for row in values:
            growing.add(row)
    return sum(handed)


@pytest.mark.parametrize("objectives", [2, 3])
def test_the_work_of_a_growing_hypervolume_is_not_quadratic_in_the_rows(monkeypatch, objectives):
    values, goals = np.random.default_rng(0).random((1600, objectives)), ["min"] * objectives
    few, many = (points_handed(monkeypatch, values[:n], goals) for n in (400, 1600))
    assert many < 4 * few  # anew for each prefix: 16 times as many


def test_with_two_objectives_a_row_meets_its_neighbours_alone(monkeypatch):
    falling = [(i / 400, 1 - i / 400) for i in np.random.default_rng(0).permutation(400)]  # all of them on the front
    assert points_handed(monkeypatch, falling, ["min", "min"]) <= 2 * len(falling)


def test_a_growing_front_refuses_what_is_not_finite():
    with pytest.raises(ValueError, match="finite"):
        pareto.GrowingFront(["min"]).add([np.nan])
