"""Expected hypervolume improvement: against hypervolumes counted by moocore, against simulation, against a grid."""

import itertools
import math

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import ndtri

from nas.samplers.hypervolume_improvement import (
    FRONT_LIMITS,
    Belief,
    Exact,
    Floats,
    LogNormal,
    expected_improvement,
    nondominated,
    split,
    thin,
)


def improvement(values_CM: Floats, front_NM: Floats, reference_M: Floats) -> Floats:
    """By its definition: the hypervolume with each candidate less the hypervolume without any."""
    before = moocore.hypervolume(front_NM, ref=reference_M) if len(front_NM) else 0.0
    return np.array([moocore.hypervolume(np.vstack([front_NM, row]), ref=reference_M) - before for row in values_CM])


def known(values_CM: Floats) -> list[Belief]:
    return [Exact(column) for column in values_CM.T]


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@pytest.mark.parametrize("points", [0, 1, 12])
def test_known_values_add_what_moocore_counts(objectives, points):
    generator = np.random.default_rng(objectives)
    front_NM, reference_M = 0.2 + 0.8 * generator.random((points, objectives)), np.full(objectives, 0.9)
    values_CM = generator.random((40, objectives))
    expected_C = improvement(values_CM, front_NM, reference_M)
    assert expected_C.max() > 0
    assert expected_improvement(known(values_CM), front_NM, reference_M) == pytest.approx(expected_C, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 4))
def test_known_values_add_what_moocore_counts_with_ties_and_at_the_reference(data, objectives):
    few = st.integers(0, 5).map(float)  # so that coordinates coincide, and some are at the reference or beyond
    front_NM = data.draw(arrays.arrays(float, st.tuples(st.integers(0, 8), st.just(objectives)), elements=few))
    values_CM = data.draw(arrays.arrays(float, (4, objectives), elements=few))
    reference_M = np.full(objectives, 4.0)
    ours_C = expected_improvement(known(values_CM), front_NM, reference_M)
    assert ours_C == pytest.approx(improvement(values_CM, front_NM, reference_M), abs=1e-9)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_uncertain_values_add_what_simulation_finds(objectives):
    generator = np.random.default_rng(7)
    front_NM, reference_M = 0.3 + 0.6 * generator.random((6, objectives)), np.ones(objectives)
    mean_M, sd, shift = generator.normal(-1.2, 0.2, objectives), 0.4, 0.1
    beliefs: list[Belief] = [LogNormal(mean_M[m : m + 1], np.array([sd]), shift) for m in range(objectives)]
    samples_CM = shift + np.exp(mean_M + sd * generator.normal(size=(4000, objectives)))
    if objectives > 2:
        beliefs[-1], samples_CM[:, -1] = Exact(np.array([0.35])), 0.35
    simulated_C = improvement(samples_CM, front_NM, reference_M)
    error = simulated_C.std() / math.sqrt(len(simulated_C))
    assert simulated_C.mean() > 5 * error
    told_C = expected_improvement(beliefs, front_NM, reference_M)
    assert told_C[0] == pytest.approx(simulated_C.mean(), abs=4 * error)


def test_a_log_normal_value_falls_short_by_what_integration_finds():
    belief = LogNormal(np.array([0.3]), np.array([0.7]), -2.0)
    edges_E = np.array([-np.inf, -2.5, -2.0, -1.5, 0.0, 3.0])
    normal = (np.arange(200_000) + 0.5) / 200_000
    values = -2.0 + np.exp(0.3 + 0.7 * ndtri(normal))
    integrated_E = [np.maximum(0.0, edge - values).mean() for edge in edges_E]
    assert belief.shortfall(edges_E)[0] == pytest.approx(integrated_E, abs=1e-4)
    assert belief.mean()[0] == pytest.approx(values.mean(), abs=1e-3)
    assert belief.below(2.0)[0] == pytest.approx(np.quantile(values, 0.02275), abs=1e-3)
    assert math.exp(belief.log_below(-1.0)[0]) == pytest.approx((values <= -1.0).mean(), abs=1e-4)


def test_a_value_hardly_uncertain_is_as_good_as_known():
    values_CM, generator = np.array([[0.2, 0.3], [0.5, 0.1], [0.9, 0.9]]), np.random.default_rng(0)
    front_NM, reference_M = generator.random((5, 2)), np.ones(2)
    hardly = [LogNormal(np.log(column), np.full(3, 1e-7), 0.0) for column in values_CM.T]
    sure_C = expected_improvement(known(values_CM), front_NM, reference_M)
    assert expected_improvement(hardly, front_NM, reference_M) == pytest.approx(sure_C, abs=1e-6)


def test_no_number_is_lost_to_beliefs_without_bounds():
    wild = LogNormal(np.array([1e3, -1e3, 0.0]), np.array([50.0, 50.0, 1e-12]), 0.0)
    told_C = expected_improvement([wild, wild], np.array([[0.5, 0.5]]), np.ones(2))
    assert np.isfinite(told_C).all()
    assert (told_C >= -1e-9).all()


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_boxes_fill_what_is_not_dominated_without_overlap(objectives):
    generator = np.random.default_rng(objectives)
    front_NM = generator.integers(1, 6, (7, objectives)).astype(float)
    reference_M = np.full(objectives, 6.0)
    front_NM = front_NM[nondominated(front_NM)]
    boxes = split(front_NM, reference_M)
    for cell in itertools.product(np.arange(0.5, 6), repeat=objectives):
        inside_K = np.ones(len(boxes.lower_KM), dtype=bool)
        for m, x in enumerate(cell):
            edges_E = boxes.edges[m]
            inside_K &= (edges_E[boxes.lower_KM[:, m]] < x) & (x < edges_E[boxes.upper_KM[:, m]])
        dominated = bool((front_NM <= np.array(cell)).all(axis=1).any())
        assert inside_K.sum() == (0 if dominated else 1), cell


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_a_thinned_front_keeps_its_extremes_and_stays_small(objectives):
    generator = np.random.default_rng(1)
    front_NM = np.abs(generator.normal(size=(400, objectives)))
    front_NM = 1 - 0.9 * front_NM / np.linalg.norm(front_NM, axis=1, keepdims=True)
    kept_NM = thin(front_NM, np.ones(objectives))
    assert len(kept_NM) == FRONT_LIMITS[objectives]
    assert kept_NM.min(axis=0) == pytest.approx(front_NM.min(axis=0))
    assert len(np.unique(kept_NM, axis=0)) == len(kept_NM)
    assert len(split(kept_NM, np.ones(objectives)).lower_KM) <= 700


def test_a_small_front_loses_only_what_is_dominated_or_beyond_the_reference():
    front_NM = np.array([[1.0, 3.0], [3.0, 1.0], [3.0, 3.0], [0.5, 5.0], [1.0, 3.0], [2.0, 4.0]])
    assert thin(front_NM, np.array([4.0, 5.0])).tolist() == [[1.0, 3.0], [3.0, 1.0]]


def test_no_objective_is_an_error():
    with pytest.raises(ValueError, match="objective"):
        expected_improvement([], np.empty((0, 1)), np.ones(1))
