"""Sets of points: farthest-first orders, distances, the reference point of a hypervolume."""

import numpy as np
import pytest

from nas import pareto
from nas.samplers.point_sets import farthest_first, nearest_distance, reference_point


def test_farthest_first_by_its_definition():
    rows = np.random.default_rng(0).random((30, 3))
    chosen = [4, 7]
    while len(chosen) < 30:
        gaps = {i: min(np.linalg.norm(rows[i] - rows[j]) for j in chosen) for i in range(len(rows)) if i not in chosen}
        chosen.append(max(gaps, key=gaps.get))
    assert farthest_first(rows, [4, 7], 30) == chosen


def test_equal_rows_are_all_chosen_once():
    assert sorted(farthest_first(np.zeros((4, 2)), [2], 4)) == [0, 1, 2, 3]


def test_no_more_rows_than_asked_for():
    assert farthest_first(np.array([[0.0], [1.0], [5.0]]), [0], 2) == [0, 2]
    assert farthest_first(np.array([[0.0], [1.0], [5.0]]), [0, 1, 2], 2) == [0, 1, 2]


def test_the_distance_to_nothing_is_infinite():
    assert np.isinf(nearest_distance(np.zeros((3, 2)), np.empty((0, 2)))).all()


def test_the_reference_point_lies_a_tenth_of_the_range_beyond_the_worst():
    assert reference_point(np.array([1.0, -4.0]), np.array([2.0, 6.0])) == pytest.approx([2.1, 7.0])


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0, 1e12, -1e-12])
def test_equal_values_lie_inside_their_reference_point(value):
    assert reference_point(np.array([value]), np.array([value])) > value
    assert (
        pareto.hypervolume([[value, value]], ["min", "max"], pareto.reference_point([[value] * 2], ["min", "max"])) > 0
    )
