"""The race over seeds: what it asks for, what it proves, and how often it errs."""

from itertools import combinations

import numpy as np
import pytest

from nas.confirm.race import Race, Standing, holm
from tests.confirm.simulated_fronts import Outcome, simulate

GOAL = ("min",)


def rows(*values: float) -> list[list[float]]:
    return [[value] for value in values]


def test_every_member_gets_the_first_seeds_and_one_at_a_time():
    race = Race(GOAL, most=8)
    assert race.wanted({4: [], 9: []}) == [4, 9]
    assert race.wanted({4: rows(1.0), 9: rows(1.0, 2.0, 1.5)}) == [4]


def test_members_far_apart_need_no_more_and_twins_go_on():
    values = {1: rows(1.00, 1.02, 0.99), 2: rows(5.00, 5.01, 5.03), 3: rows(5.02, 5.00, 5.04)}
    race = Race(GOAL, most=8)
    standing = race.standing(values)
    assert standing.apart == {(1, 2), (1, 3)}
    assert standing.order == (1, 2, 3)
    assert (standing.ties(1), standing.ties(2), standing.ties(3)) == ((), (3,), (2,))
    assert standing.groups() == ((1,), (2, 3))
    assert race.wanted(values) == [2, 3]


def test_what_more_seeds_can_hardly_tell_apart_gets_none():
    noise = [0.0, 1.0, -1.0]
    twins = {1: rows(*noise), 2: rows(*(0.01 - x for x in noise))}
    assert Race(GOAL, most=4).wanted(twins) == []
    apart = {1: rows(*noise), 2: rows(*(5.0 - x for x in noise))}
    assert Race(GOAL, most=4).wanted(apart) == [1, 2]


def test_the_most_ends_the_race():
    values = {1: rows(0.0, 1.0, 0.5, 0.2), 2: rows(1.0, 0.4, 1.6, 0.9)}
    assert Race(GOAL, most=4).wanted(values) == []
    assert Race(GOAL, most=4).standing(values).seeds == 4


def test_the_goal_orders_and_either_objective_tells_apart():
    values = {1: [[0.1, 5.0], [0.2, 5.1], [0.15, 5.2]], 2: [[0.1, 1.0], [0.25, 1.1], [0.12, 1.05]]}
    standing = Race(("max", "min"), most=8).standing(values)
    assert standing.apart == {(1, 2)}
    values[2] = [[value[0] - 0.05, value[1]] for value in values[2]]
    assert Race(("max", "min"), most=8).standing(values).order == (1, 2)
    assert Race(("min", "min"), most=8).standing(values).order == (2, 1)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_few_seeds_at_most(most):
    values = {1: rows(*([1.0] * most)), 2: rows(*([9.0] * most))}
    race = Race(GOAL, most=most)
    assert race.wanted({1: [], 2: []}) == [1, 2]
    assert race.wanted(values) == []
    assert race.standing(values).apart == ({(1, 2)} if most > 1 else set())


def test_nothing_to_compare():
    race = Race(GOAL, most=8)
    assert race.wanted({}) == []
    assert race.wanted({7: rows(1.0, 2.0)}) == [7]
    assert race.wanted({7: rows(1.0, 2.0, 3.0)}) == []
    assert Race((), most=8).standing({1: [], 2: []}).apart == set()


def test_the_looks_spend_the_whole_error_and_no_more():
    for race in (Race(GOAL, most=8), Race(GOAL, most=3), Race(GOAL, most=12, first=5)):
        assert sum(race.share(n) for n in range(race.first, race.most + 1)) == pytest.approx(1.0)


def test_results_beyond_the_look_change_nothing():
    values = {1: rows(1.0, 1.1, 0.9), 2: rows(1.2, 1.1, 1.3), 3: rows(9.0, 9.1, 8.9)}
    race = Race(GOAL, most=8)
    early = {**values, 1: [*values[1], [100.0]]}
    assert race.wanted(values) == [1, 2]
    assert race.wanted(early) == [2]
    assert race.standing(early).apart == race.standing(values).apart


def test_runs_of_ties_overlap():
    standing = Standing((5, 3, 8, 1), frozenset({(5, 8), (1, 5), (1, 3)}), frozenset(), 3)
    assert standing.groups() == ((5, 3), (3, 8), (8, 1))
    assert standing.ties(3) == (5, 8)


def test_holm_is_the_closed_test_of_bonferroni():
    """Reference: a hypothesis falls if each set with it has some p ≤ error / size (Marcus et al. 1976)."""
    generator = np.random.default_rng(3)
    for _ in range(50):
        p = {((0, i), 0): float(value) for i, value in enumerate(generator.uniform(0, 0.05, size=5) ** 1.5)}
        sets = [chosen for size in range(1, 6) for chosen in combinations(p, size)]
        closed = {
            key for key in p if all(min(p[k] for k in chosen) <= 0.05 / len(chosen) for chosen in sets if key in chosen)
        }
        assert holm(p, 5, 0.05) == closed


def check(found: Outcome) -> None:
    assert found.errors <= 0.06
    assert found.power >= 0.9
    assert found.trainings <= 0.7


def test_simulated_races_err_seldom_and_find_three_standard_deviations():
    check(simulate(fronts=40))


@pytest.mark.soak
def test_two_thousand_simulated_races():
    check(simulate(fronts=2000))


@pytest.mark.soak
@pytest.mark.parametrize("noise", ["seeds that disturb all alike", "unequal spreads", "heavy tails"])
def test_errors_stay_rare_where_noise_is_not_as_assumed(noise):
    assert simulate(fronts=2000, noise=noise).errors <= 0.06


@pytest.mark.soak
def test_equal_members_are_seldom_told_apart():
    assert simulate(fronts=2000, gap=0.0, twins=0).errors <= 0.06
