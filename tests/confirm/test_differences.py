"""The moderated t-test of two members over shared seeds, against closed forms and scipy's tests."""

import numpy as np
import pytest
from scipy import special, stats

from nas.confirm.differences import Difference, Layout, prior_freedom


def test_balanced_layouts_have_a_closed_form():
    """Reference: the residual is x − its member's mean − its seed's mean + the grand mean."""
    values_MS = np.random.default_rng(0).normal(size=(5, 4))
    layout = Layout(values_MS)
    members_M, seeds_S = values_MS.mean(axis=1), values_MS.mean(axis=0)
    residual_MS = values_MS - members_M[:, None] - seeds_S + values_MS.mean()
    np.testing.assert_allclose(layout.means_M, members_M)
    assert layout.freedom == pytest.approx(4 * 3)
    assert layout.variance == pytest.approx((residual_MS**2).sum() / 12)


def test_a_seed_that_a_member_lacks_does_not_shift_its_mean():
    values_MS = np.array([[1.0, 2.0, 6.0], [2.0, 3.0, np.nan], [0.0, 1.0, 5.0]])
    layout = Layout(values_MS)
    np.testing.assert_allclose(layout.means_M, [3.0, 4.0, 2.0])
    assert layout.freedom == pytest.approx(8 - 5)
    assert layout.variance == pytest.approx(0.0, abs=1e-20)


def test_values_that_are_not_paired_have_their_own_means_alone():
    values_MS = np.array([[1.0, 2.0, 6.0], [2.0, 3.0, np.nan]])
    layout = Layout(values_MS, paired=False)
    np.testing.assert_allclose(layout.means_M, [3.0, 2.5])
    assert layout.freedom == pytest.approx(3)
    assert layout.variance == pytest.approx((4 + 1 + 9 + 0.25 + 0.25) / 3)


def test_two_members_are_compared_by_the_paired_t_test():
    one, other = [2.1, 2.4, 1.9, 2.2], [1.8, 2.2, 1.9, 1.7]
    found = Difference.of(Layout(np.array([one, other])), 0, 1)
    assert found.freedom == pytest.approx(3)
    assert found.p == pytest.approx(stats.ttest_rel(one, other).pvalue)


def test_members_that_vary_alike_share_their_variance():
    values_MS = np.random.default_rng(1).normal(size=(8, 3))
    layout = Layout(values_MS)
    assert np.isinf(layout.prior_freedom)
    found = Difference.of(layout, 2, 5)
    assert found.variance == pytest.approx(2 * layout.variance)
    assert found.freedom == pytest.approx(7 * 2)
    t = (values_MS[2] - values_MS[5]).mean() / np.sqrt(2 * layout.variance / 3)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 14))


def test_members_that_vary_differently_lend_each_other_less():
    sizes_M = np.array([0.01, 1.0, 0.02, 3.0, 0.05, 0.5, 2.0, 0.1])
    layout = Layout(np.random.default_rng(1).normal(size=(8, 4)) * sizes_M[:, None])
    prior = layout.prior_freedom
    assert 0 < prior < 10
    found = Difference.of(layout, 0, 2)
    own = (layout.values_MS[0] - layout.values_MS[2]).var(ddof=1)
    assert found.variance == pytest.approx((prior * 2 * layout.variance + 3 * own) / (prior + 3))
    assert found.freedom == pytest.approx(prior + 3)


@pytest.mark.parametrize("true", [2.0, 6.0])
def test_the_prior_is_found_again_among_many_members(true):
    """Variances are drawn as Smyth supposes: 1/σ² is chi-squared with `true` degrees of freedom, over `true`."""
    generator = np.random.default_rng(2)
    variance_M = true / generator.chisquare(true, size=20_000)
    squares_M = variance_M * generator.chisquare(3, size=20_000)
    assert prior_freedom(squares_M, np.full(20_000, 3.0)) == pytest.approx(true, rel=0.1)


def test_the_prior_solves_its_equation():
    squares_M, freedom_M = np.array([0.01, 3.0, 1.0, 40.0]), np.full(4, 2.0)
    logs_M = np.log(squares_M / freedom_M)
    expected = logs_M.var(ddof=1) - special.polygamma(1, 1.0)
    assert special.polygamma(1, prior_freedom(squares_M, freedom_M) / 2) == pytest.approx(expected)


def test_exact_values_differ_or_do_not():
    layout = Layout(np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [1.0, 1.0, 1.0]]))
    assert [Difference(d.mean, 0.0, 3, 4).p for d in (Difference.of(layout, 0, 1), Difference.of(layout, 0, 2))] == [
        0.0,
        1.0,
    ]


def test_predictive_power_is_the_share_of_futures_that_find_the_difference():
    """Reference: futures are drawn around this mean, with its uncertainty, and each is tested."""
    now = Difference(mean=0.9, variance=1.0, seeds=4, freedom=1e6)
    generator, most = np.random.default_rng(0), 8
    truth_N = now.mean + generator.normal(size=200_000) / np.sqrt(now.seeds)
    rest_N = truth_N + generator.normal(size=200_000) / np.sqrt(most - now.seeds)
    later_N = (now.seeds * now.mean + (most - now.seeds) * rest_N) / most
    share = (later_N * np.sqrt(most) > stats.norm.isf(0.005)).mean()
    assert now.power(most, 0.01) == pytest.approx(share, abs=0.005)
    assert now.power(4, 0.01) == 0.0
