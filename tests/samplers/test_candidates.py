"""Draws, neighbours and spaces gathered from trials; and parameters as numbers."""

import math
import random
from collections import Counter
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from nas.samplers.candidates import (
    RandomChooser,
    draw_candidate,
    key_of,
    neighbour,
    replay_candidate,
    space_from_trials,
)
from nas.samplers.encoding import CandidateRows, Encoding
from nas.samplers.known_choices import KnownChoices, drawing

DISTRIBUTIONS = [
    CategoricalDistribution(("a", "b", "c")),
    IntDistribution(1, 8),
    IntDistribution(4, 64, step=4),
    IntDistribution(1, 100, log=True),
    FloatDistribution(-1.0, 1.0),
    FloatDistribution(0.1, 0.7, step=0.1),
    FloatDistribution(1e-5, 0.1, log=True),
]


def tree(chooser: Any) -> dict[str, Any]:
    """What there is to choose depends on the kind."""
    kind = chooser.suggest_categorical("kind", ["wide", "deep", "tiny"])
    chosen = {"kind": kind, "rate": chooser.suggest_float("rate", 1e-4, 1e-1, log=True)}
    if kind == "wide":
        chosen["width"] = chooser.suggest_int("width", 8, 64, step=8)
    elif kind == "deep":
        chosen |= {"depth": chooser.suggest_int("depth", 1, 6), "norm": chooser.suggest_categorical("norm", ["x", "y"])}
    return chosen


def draws(space: Any, count: int, seed: int = 0) -> list[Any]:
    generator = random.Random(seed)
    return [draw_candidate(space, RandomChooser(generator)) for _ in range(count)]


def draw(distribution: Any, generator: random.Random) -> Any:
    """Draws by the methods of `random.Random`: what the fast functions must give, number for number."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return generator.choice(choices)
        case IntDistribution(low=low, high=high, log=True):
            return min(high, max(low, round(math.exp(generator.uniform(math.log(low), math.log(high))))))
        case IntDistribution(low=low, high=high, step=step):
            return generator.randrange(low, high + 1, step)
        case FloatDistribution(low=low, high=high, log=True):
            return min(high, max(low, math.exp(generator.uniform(math.log(low), math.log(high)))))
        case FloatDistribution(low=low, high=high, step=float(step)):
            return min(high, low + generator.randint(0, round((high - low) / step)) * step)
        case FloatDistribution(low=low, high=high):
            return generator.uniform(low, high)


@pytest.mark.parametrize("distribution", [*DISTRIBUTIONS, IntDistribution(3, 3), IntDistribution(1, 5000)], ids=str)
def test_fast_draws_are_those_of_the_generator_s_own_methods(distribution):
    fast, one, other = drawing(distribution), random.Random(0), random.Random(0)
    assert [fast(one) for _ in range(500)] == [draw(distribution, other) for _ in range(500)]
    assert one.getstate() == other.getstate()


def test_choosers_that_share_what_is_known_choose_the_same_where_ranges_and_options_change():
    def changing(chooser: Any) -> Any:
        wide = chooser.suggest_categorical("wide", [True, False])
        options = ["a", "b", "c"] if wide else [1, 1.0, True]
        chooser.suggest_categorical("x", options)
        chooser.suggest_int("n", 1, 9 if wide else 4)
        chooser.suggest_float("f", 0.0, 1.0, step=0.25 if wide else None)
        return {name: (type(value), value) for name, value in chooser.params.items()}

    known, one, other = KnownChoices(), random.Random(2), random.Random(2)
    shared = [draw_candidate(changing, RandomChooser(one, known=known)) for _ in range(60)]
    assert shared == [draw_candidate(changing, RandomChooser(other)) for _ in range(60)]


def test_a_list_of_options_that_has_changed_is_seen():
    options, known = ["a"], KnownChoices()
    first = RandomChooser(random.Random(0), known=known).suggest_categorical("x", options)
    options[0] = "b"
    assert (first, RandomChooser(random.Random(0), known=known).suggest_categorical("x", options)) == ("a", "b")


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_draws_are_what_optuna_takes_for_values_of_the_distribution(distribution):
    generator = random.Random(0)
    for _ in range(500):
        value = draw(distribution, generator)
        assert distribution._contains(distribution.to_internal_repr(value))


def test_draws_are_uniform_over_options_steps_and_logarithms():
    generator = random.Random(0)
    steps = Counter(round(draw(FloatDistribution(0.1, 0.7, step=0.2), generator), 1) for _ in range(4000))
    assert set(steps) == {0.1, 0.3, 0.5, 0.7}
    assert all(900 < count < 1100 for count in steps.values())
    small = sum(draw(FloatDistribution(1e-4, 1.0, log=True), generator) < 1e-2 for _ in range(4000))
    assert 1900 < small < 2100


def test_a_candidate_is_replayed_from_its_parameters():
    for candidate in draws(tree, 50):
        again = replay_candidate(tree, candidate.params)
        assert again == candidate
        assert again.configuration == candidate.params


def test_what_is_not_on_offer_is_drawn_anew():
    again = replay_candidate(tree, {"kind": "deep", "norm": "z", "depth": 60, "rate": "fast"})
    assert again.params["kind"] == "deep"
    assert again.params["norm"] in ("x", "y")
    assert again.params["depth"] in range(1, 7)


def test_one_name_has_one_value_however_often_it_is_asked_for():
    def twice(chooser: Any) -> tuple[Any, Any]:
        return chooser.suggest_int("n", 0, 1000), chooser.suggest_int("n", 0, 1000)

    assert all(a == b for a, b in (candidate.configuration for candidate in draws(twice, 20)))


def test_keys_tell_parameters_apart_whatever_their_values():
    assert key_of({"a": 1, "b": None}) == key_of({"b": None, "a": 1})
    assert key_of({"a": [1, 2]}) == key_of({"a": [1, 2]}) != key_of({"a": [1, 3]})


def test_neighbours_differ_in_a_few_choices_and_what_depends_on_them():
    parent = replay_candidate(tree, {"kind": "deep", "rate": 0.01, "depth": 3, "norm": "x"})
    generator = random.Random(0)
    near = [neighbour(tree, parent, generator) for _ in range(300)]
    changed = {frozenset(n for n in parent.params if c.params.get(n) != parent.params[n]) for c in near}
    assert {frozenset({"norm"}), frozenset({"depth"}), frozenset({"rate"}), frozenset({"norm", "depth"})} <= changed
    assert max(map(len, changed)) <= 4  # three of them, or the kind and all that went with it
    assert {c.params["kind"] for c in near} == {"wide", "deep", "tiny"}
    assert all(replay_candidate(tree, candidate.params) == candidate for candidate in near)


def test_a_space_is_gathered_from_trials_with_what_goes_with_what():
    space = space_from_trials((c.params, c.distributions) for c in draws(tree, 40))
    assert space is not None
    gathered = draws(space, 300, seed=1)
    assert all(replay_candidate(tree, candidate.params).params == candidate.params for candidate in gathered)
    assert {c.params["kind"] for c in gathered} == {"wide", "deep", "tiny"}
    parent = next(c for c in gathered if c.params["kind"] == "wide")
    generator = random.Random(2)
    for candidate in (neighbour(space, parent, generator) for _ in range(30)):
        assert replay_candidate(tree, candidate.params).params == candidate.params


def test_a_space_gathered_from_equal_shapes_offers_what_no_trial_had():
    one = {"a": "x", "b": 1}
    distributions = {"a": CategoricalDistribution(("x", "y")), "b": IntDistribution(1, 3)}
    space = space_from_trials([(one, distributions)])
    assert space is not None
    assert len({key_of(c.params) for c in draws(space, 100)}) == 6


def test_no_space_is_gathered_from_trials_without_parameters():
    assert space_from_trials([]) is None
    assert space_from_trials([({}, {})]) is None


def encoded(space: Any, params: list[dict[str, Any]]) -> np.ndarray:
    return Encoding(candidate.distributions for candidate in draws(space, 50)).rows(params)


def test_numbers_are_one_column_besides_presence_and_options_one_each():
    distributions = {"a": CategoricalDistribution(("x", "y")), "n": IntDistribution(0, 4)}
    rows = Encoding([distributions]).rows([{"a": "y", "n": 1}, {"a": "x"}])
    assert rows.tolist() == [[0, 1, 1, 0.75], [1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("distribution", "values"),
    [
        (IntDistribution(1, 64, log=True), (1, 8, 64)),
        (FloatDistribution(1e-4, 1.0, log=True), (1e-4, 1e-2, 1.0)),
        (CategoricalDistribution((1, 4, 16)), (1, 4, 16)),
        (CategoricalDistribution((0, 2, 4)), (0, 2, 4)),
        (FloatDistribution(-2.0, 2.0), (-2.0, 0.0, 2.0)),
    ],
)
def test_numbers_keep_their_order_and_distances_by_their_scale(distribution, values):
    rows = Encoding([{"n": distribution}]).rows([{"n": value} for value in values])
    assert rows[:, 1] == pytest.approx([0.5, 1.0, 1.5])


def test_an_infinite_option_is_an_option_and_no_number():
    rows = Encoding([{"n": CategoricalDistribution((1.0, math.inf))}]).rows([{"n": math.inf}])
    assert rows.tolist() == [[0, 1]]


def test_each_parameter_weighs_the_same_however_many_columns_it_takes():
    candidates = draws(tree, 400)
    rows = CandidateRows(None)
    rows.scale_over(candidates)
    found = rows.of(candidates)
    names = Encoding(c.distributions for c in candidates).known
    widths = [3 if name == "kind" else 2 for name in names]  # norm: one column an option, as many as a number takes
    per_parameter = [columns.var(axis=0).sum() for columns in np.split(found, np.cumsum(widths)[:-1], axis=1)]
    assert per_parameter == pytest.approx([1.0] * len(names))


def test_rows_do_not_depend_on_who_was_seen_before():
    candidates, others = draws(tree, 30), draws(tree, 30, seed=9)
    one, other = CandidateRows(None), CandidateRows(None)
    one.scale_over(candidates)
    other.scale_over(candidates)
    other.of(others)
    assert np.array_equal(one.of(candidates), other.of(candidates))


def test_an_unknown_parameter_gets_columns_and_says_so():
    rows = CandidateRows(None)
    wide = [c for c in draws(tree, 50) if c.params["kind"] == "wide"]
    rows.scale_over(wide)
    before, width = rows.version, rows.of(wide).shape[1]
    deep = [c for c in draws(tree, 50) if c.params["kind"] == "deep"]
    assert rows.of(deep).shape[1] > width
    assert rows.version > before


def test_own_features_are_taken_of_the_configuration_as_they_are():
    rows = CandidateRows(lambda configuration: [configuration["rate"], 7.0])
    candidates = draws(tree, 5)
    rows.scale_over(candidates)
    assert rows.of(candidates).tolist() == [[c.configuration["rate"], 7.0] for c in candidates]


def test_an_optuna_trial_is_asked_by_the_same_space():
    study = optuna.create_study()
    trial = study.ask()
    assert tree(trial) == trial.params
