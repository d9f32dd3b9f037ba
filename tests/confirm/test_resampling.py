"""The paired bootstrap, and the shares of draws on the front, against slow and obvious forms."""

import math

import numpy as np
import pytest
from scipy import stats

from nas import pareto
from nas.confirm import resampling
from nas.confirm.differences import Layout
from nas.confirm.estimates import between, by_member, spearman, student
from nas.confirm.resampling import Resampled, front_share


def test_the_share_on_the_front_is_counted_draw_by_draw(monkeypatch):
    generator = np.random.default_rng(0)
    draws_BMO = generator.normal(size=(50, 6, 3))
    feasible_BM = generator.uniform(size=(50, 6)) < 0.8
    counts = np.zeros(6)
    for rows_MO, ok_M in zip(draws_BMO, feasible_BM, strict=True):
        feasible = np.flatnonzero(ok_M)
        counts[[feasible[i] for i in pareto.front(rows_MO[feasible], ["min"] * 3)]] += 1
    np.testing.assert_allclose(front_share(draws_BMO, feasible_BM), counts / 50)
    monkeypatch.setattr(resampling, "COMPARISONS", 100)
    np.testing.assert_allclose(front_share(draws_BMO, feasible_BM), counts / 50)


def test_draws_scatter_as_means_do():
    """The spread of the draws is s / √n, and what a seed does to all members is no part of it."""
    generator = np.random.default_rng(1)
    seeds_S = 10 * generator.normal(size=6)
    groups = [[m + seed + x for seed, x in zip(seeds_S, generator.normal(size=6), strict=True)] for m in range(8)]
    found = Resampled.of(groups, ratios=False, generator=np.random.default_rng(2))
    layout = Layout(np.array(groups))
    assert layout.variance == pytest.approx(1.0, abs=0.5)
    np.testing.assert_allclose(found.draws_BM.std(axis=0), layout.deviations_M / math.sqrt(6), rtol=0.08)
    np.testing.assert_allclose(found.draws_BM.mean(axis=0), found.means_M, atol=0.05)
    np.testing.assert_allclose(found.means_M, np.mean(groups, axis=1))


def test_times_are_drawn_as_ratios():
    groups = [[1.0, 1.1, 0.9], [100.0, 110.0, 90.0]]
    found = Resampled.of(groups, ratios=True, generator=np.random.default_rng(0))
    one, other = (found.draws_BM / found.means_M).std(axis=0)
    assert found.means_M[1] == pytest.approx(100 * found.means_M[0])
    assert one == pytest.approx(other, rel=0.1)


def test_one_value_each_is_drawn_as_it_is():
    found = Resampled.of([[1.0], [2.0]], ratios=True, generator=np.random.default_rng(0))
    assert (found.draws_BM == [1.0, 2.0]).all()


def test_a_second_seed_of_one_member_is_all_that_is_known_of_the_noise():
    found = Resampled.of([[1.0, 3.0], [2.0]], ratios=False, generator=np.random.default_rng(0))
    assert found.means_M.tolist() == pytest.approx([2.0, 2.0])
    np.testing.assert_allclose(found.draws_BM.std(axis=0), [1.0, math.sqrt(2)], rtol=0.05)


def test_spreads_that_differ_are_lent_less():
    alike = by_member([[0.0, 1.0, 2.0], [5.0, 6.0, 7.0]])
    assert alike[0].half == pytest.approx(alike[1].half)
    sizes = (0.001, 1.0, 0.002, 3.0, 0.005, 0.5, 2.0, 0.1)
    groups = [list(size * np.random.default_rng(7).normal(size=4)) for size in sizes]
    found = by_member(groups)
    assert found[0].half < found[3].half / 2
    assert by_member([[1.0], [2.0]])[0].low is None


def test_intervals_cover_the_mean_in_95_of_100():
    generator, covered = np.random.default_rng(3), 0
    for _ in range(400):
        found = by_member([list(row) for row in generator.normal(size=(6, 3))])
        covered += sum(each.low <= 0.0 <= each.high for each in found)
    assert 0.93 < covered / 2400 < 0.97


def test_a_mean_of_one_and_of_several():
    assert student([2.0]).half is None
    assert student([1.0, 3.0]).half == pytest.approx(12.706, rel=1e-4)


def test_few_pairs_have_no_rank_correlation():
    assert spearman([(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]) is None
    assert spearman([(1.0, 1.0)] * 5) is None
    found = spearman([(1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (4.0, 4.0)])
    assert found.mean == pytest.approx(1.0)
    assert found.low < found.high <= 1.0


def test_the_rank_correlation_is_scipys_with_ties_too():
    pairs = [(1.0, 3.0), (2.0, 1.0), (2.0, 4.0), (5.0, 4.0), (7.0, 9.0), (6.0, 2.0)]
    assert spearman(pairs).mean == pytest.approx(stats.spearmanr(pairs).statistic)


def test_the_bias_of_the_draws_is_taken_off():
    draws = np.array([1.0, 2.0, 3.0])
    found = between(1.5, draws)
    assert found.mean == pytest.approx(1.0)
    assert (found.low, found.high) == pytest.approx((3.0 - 2.95, 3.0 - 1.05))
