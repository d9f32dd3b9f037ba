"""Importances on objectives that are formulas of the choices, so that it is known what decides them."""

import math
import random
from collections.abc import Callable

import pytest

from nas.architecture import Architecture
from nas.report import importance as importances
from nas.report.importance import FEWEST, Importance, choice_of, columns
from nas.results import Objective
from nas.space.architecture_space import Space
from nas.space.choosing import RandomChooser
from nas.space.settings import SpaceSettings
from tests.report.rows import study, trial

LOSS = Objective("val_loss", "min")
SETTINGS = {
    "depth": [1, 2, 3, 4],
    "hidden": [32, 48, 64, 96],
    "attention": [
        {"kind": "softmax", "heads": [1, 2, 4], "kv_heads": [1, "all"]},
        {"kind": "window", "heads": [1, 2, 4], "window": [8, 16, 32]},
        {"kind": "linear", "heads": [1, 2, 4]},
    ],
}
KIND = {"softmax": 0.0, "window": 0.1, "linear": 0.4}


@pytest.fixture(autouse=True)
def _whole_forests(monkeypatch):
    monkeypatch.setattr(importances, "TREES", 60)


def importance(value: Callable[[Architecture], float], trials: int = 60, mixed: bool = False) -> Importance:
    """Of random architectures of the space, whose loss is this."""
    space = Space({"decoder": SpaceSettings.model_validate({**SETTINGS, "mixed": mixed})})
    generator, rows = random.Random(0), []
    for number in range(trials):
        chooser = RandomChooser(generator)
        architecture = space.suggest(chooser)
        rows.append(trial(number, params=chooser.params, metrics={"val_loss": value(architecture)}))
    return Importance.of(study(rows), LOSS)


def kinds(architecture: Architecture) -> float:
    return sum(KIND[block.attention.kind] for block in architecture.blocks) / architecture.depth


def test_a_product_of_two_choices_is_told_as_these_two_by_their_weight():
    found = importance(lambda a: a.hidden**-1.0 * a.depth**-0.25)
    shares = dict(found.shares)
    assert found.r2 > 0.9
    # Shuffling doubles the variance that a term of the logarithm adds; so the shares are those of the variances.
    hidden, depth = ([math.log(v) for v in SETTINGS[key]] for key in ("hidden", "depth"))
    weights = [variance(hidden), 0.25**2 * variance(depth)]
    assert shares["hidden"] == pytest.approx(weights[0] / sum(weights), abs=0.06)
    assert shares["hidden"] + shares["depth"] > 0.98
    assert [choice for choice, _ in found.shares[:2]] == ["hidden", "depth"]
    assert sum(shares.values()) == pytest.approx(1.0)


def variance(values):
    mean = sum(values) / len(values)
    return sum((v - mean) ** 2 for v in values) / len(values)


@pytest.mark.parametrize("mixed", [False, True])
def test_what_a_kind_does_is_not_put_down_to_the_choices_that_only_it_has(mixed):
    found = importance(lambda a: 1 + kinds(a), mixed=mixed)
    assert found.r2 > 0.6
    assert found.shares[0][0] == "attention"
    assert found.shares[0][1] > 0.9


def test_depth_is_told_apart_from_choices_that_deeper_blocks_make():
    found = importance(lambda a: a.depth**-0.5, mixed=True)
    assert found.shares[0][0] == "depth"
    assert found.shares[0][1] > 0.9


def test_too_few_trials_and_pure_chance_are_not_interpreted():
    few = importance(lambda a: a.hidden**-1.0, trials=FEWEST - 1)
    assert (few.trials, few.r2, few.shares) == (FEWEST - 1, None, ())
    assert importance(lambda a: a.hidden**-1.0, trials=FEWEST).r2 is not None
    generator = random.Random(1)
    chance = importance(lambda a: generator.random(), trials=40)
    assert chance.r2 <= 0
    assert chance.shares == ()


def test_an_objective_that_never_changes_has_nothing_to_decide():
    assert importance(lambda a: 1.0).r2 is None


def test_it_is_the_same_each_time():
    assert importance(lambda a: kinds(a) - a.hidden / 100) == importance(lambda a: kinds(a) - a.hidden / 100)


def test_trials_without_the_value_or_without_choices_are_left_out():
    rows = [trial(i, params={"hidden": 32 + i}, metrics={"val_loss": 1.0 + i}) for i in range(20)]
    odd = [
        trial(20, params={"hidden": 5}, metrics={"val_loss": math.nan}),
        trial(21, params={}, metrics={"val_loss": 7.0}),
        trial(22, params={"hidden": 5}),
    ]
    assert Importance.of(study([*rows, *odd]), LOSS) == Importance.of(study(rows), LOSS)


@pytest.mark.parametrize(
    ("parameter", "choice"),
    [
        ("hidden", "hidden"),
        ("softmax.heads@hidden=48", "softmax.heads"),
        ("block2.softmax.heads@hidden=48,kv_heads=1.5", "softmax.heads"),
        ("encoder.block10.attention", "encoder.attention"),
        ("decoder.block0.softmax.heads", "decoder.softmax.heads"),
        ("cross.softmax.heads", "cross.softmax.heads"),
    ],
)
def test_parameters_are_told_by_the_choice_that_they_belong_to(parameter, choice):
    assert choice_of(parameter) == choice


def test_columns_are_numbers_shares_of_options_and_means_where_nothing_was_chosen():
    x_ND, owners = columns(
        [
            {"depth": 2, "block0.attention": "a", "block1.attention": "b", "a.heads@hidden=1": 1, "same": 3},
            {"depth": 1, "block0.attention": "c", "norm": True, "same": 3},
            {"depth": 1, "block0.attention": "a", "block0.a.heads": 4, "norm": False, "same": 3},
        ]
    )
    assert owners == ["a.heads", "attention", "attention", "attention", "depth", "norm"]
    assert x_ND.tolist() == [
        [1.0, 0.5, 0.5, 0.0, 2.0, 0.5],
        [2.5, 0.0, 0.0, 1.0, 1.0, 0.0],
        [4.0, 1.0, 0.0, 0.0, 1.0, 1.0],
    ]


def test_of_many_trials_a_sample_is_looked_at_and_told_as_such(monkeypatch):
    monkeypatch.setattr(importances, "MOST", 40)
    found = importance(lambda a: a.hidden**-1.0, trials=100)
    assert found.trials == 40
    assert found.shares[0][0] == "hidden"
    assert found == importance(lambda a: a.hidden**-1.0, trials=100)
