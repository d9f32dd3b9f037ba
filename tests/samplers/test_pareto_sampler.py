"""How good the pareto sampler's proposals are: on small tables whose best trade-offs are known."""

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from nas.samplers import gaussian_process, study_model, surrogate
from nas.samplers.pareto_sampler import PREDICTED
from nas.samplers.trial_history import RUNG_VALUES
from tests.samplers.small_table import (
    KINDS,
    TABLE,
    Params,
    both,
    constrained,
    distinct,
    error,
    known,
    latency,
    of_tree,
    quick,
    search,
    share_of_hypervolume,
    space,
    study_of,
    tree,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fast_kernels")]


@pytest.mark.parametrize(
    ("options", "seeds", "kernel"),
    [({}, 2, surrogate.kernel), ({"cheap": {1: latency}}, 3, gaussian_process.kernel)],
    ids=["predicted, by the reference", "known, by the faster form"],
)
def test_it_finds_more_of_the_front_than_random_draws(monkeypatch, options, seeds, kernel):
    monkeypatch.setattr(study_model, "kernel", kernel)
    ours, random_ones = [], []
    for seed in range(seeds):
        ours.append(share_of_hypervolume(search(study_of(quick(seed=seed, **options)), both, 30)))
        random_ones.append(share_of_hypervolume(search(study_of(RandomSampler(seed=seed)), both, 30)))
    assert np.mean(ours) > 0.97
    assert 1 - np.mean(ours) < (1 - np.mean(random_ones)) / 4


@pytest.mark.parametrize("trained", [0, 10])
def test_proposals_asked_for_side_by_side_differ_and_are_spread(trained):
    study = study_of(quick())
    search(study, both, trained)
    trials = [study.ask() for _ in range(5)]
    kinds = [trial.suggest_categorical("kind", KINDS) for trial in trials]  # each is half chosen
    batch = [space(trial) for trial in trials]
    assert kinds == [params["kind"] for params in batch]
    assert distinct(batch) == 5
    assert len({params["depth"] for params in batch}) > 1
    assert len({(params["heads"], params["kind"]) for params in batch}) > 2


def test_the_last_new_ones_are_looked_for_harder():
    def wide(chooser: Any) -> Params:
        return {"n": chooser.suggest_int("n", 0, 4999)}

    sampler = quick(wide, limits={"n": lambda params: params["n"] - 49})
    proposed = search(study_of(sampler), lambda p: (float(p["n"]), -float(p["n"])), 25, wide)
    assert distinct(proposed) == 25
    assert max(params["n"] for params in proposed) < 50


def test_to_maximise_a_logarithm_is_to_minimise_that_of_the_inverse():
    def bound(direction: str, values: Callable[[Params], Any]) -> list[float]:
        """Of one architecture, after the same twelve others."""
        study = study_of(quick(logarithmic=[True, True]), directions=[direction, "minimize"])
        for params in random.Random(0).sample(TABLE, 13):
            study.enqueue_trial(params)
        search(study, values, 12)
        space(study.ask())
        told = study.sampler.optimistic(study, study.trials[-1], [None, None])
        assert told is not None
        return told

    least, most = bound("minimize", both), bound("maximize", lambda p: (1 / error(p), latency(p)))
    assert least == pytest.approx([1 / most[0], most[1]], rel=1e-3)


def search_where_one_kind_is(bad: float) -> list[Params]:
    return search(study_of(quick()), lambda p: (bad if p["kind"] == "a" else error(p), latency(p)), 18)


def test_what_is_not_finite_does_no_harm():
    """At five seeds, none or one of eight proposals is of that kind; of the others' front .92 to .98 is found."""
    proposed = search_where_one_kind_is(math.inf)
    assert distinct(proposed) == 18
    assert sum(params["kind"] == "a" for params in proposed[10:]) <= 3
    assert share_of_hypervolume([params for params in proposed if params["kind"] != "a"]) > 0.8


def test_a_penalty_beyond_all_measure_is_what_infinity_is():
    """At five seeds, none to two of eight proposals are of that kind; of the others' front .91 to .98 is found."""
    proposed = search_where_one_kind_is(1e300)
    assert distinct(proposed) == 18
    assert sum(params["kind"] == "a" for params in proposed[10:]) <= 4
    assert share_of_hypervolume([params for params in proposed if params["kind"] != "a"]) > 0.8


@pytest.mark.parametrize(("broken", "objectives"), [(1e300, [0]), (-1e300, [0]), (1e300, [0, 1])])
def test_one_broken_value_does_not_decide_the_search(broken, objectives):
    """Random draws find .91. With outlying values taken as they are: .89, .84 and .91."""
    shares = []
    for seed in range(2):
        study = study_of(quick(seed=seed))
        proposed = search(study, both, 3)
        trial = study.ask()
        values = both(space(trial))
        study.tell(trial, [broken if m in objectives else value for m, value in enumerate(values)])
        shares.append(share_of_hypervolume(proposed + search(study, both, 20)))
    assert np.mean(shares) > 0.93


def test_one_broken_violation_does_not_hide_where_the_limit_is_kept():
    def violation(params: Params) -> float:
        return params["heads"] + params["depth"] - 4.5

    kept = []
    for seed in range(2):
        study = study_of(known(seed=seed))
        proposed = [*constrained(study, violation, 3), *constrained(study, lambda params: 1e300, 1)]
        kept += [violation(params) <= 0 for params in (proposed + constrained(study, violation, 16))[8:]]
    assert np.mean(kept) > 0.5  # .67 to .92 at other seeds; .35 of the table


@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_a_study_in_units_beyond_measure_is_searched_as_one_in_usual_units(size):
    """Products of such values are infinite or nothing."""
    proposed = search(study_of(quick()), lambda p: (size * error(p), size * latency(p)), 16)
    assert distinct(proposed) == 16
    assert share_of_hypervolume(proposed) > 0.85


def test_a_cheap_value_beyond_all_measure_is_only_a_bad_one():
    def cheap(params: Params) -> float:
        return 1e300 if params["kind"] == "e" else latency(params)

    shares = []
    for seed in range(2):
        proposed = search(study_of(quick(seed=seed, cheap={1: cheap})), lambda p: (error(p), cheap(p)), 16)
        assert sum(params["kind"] == "e" for params in proposed[6:]) <= 2
        shares.append(share_of_hypervolume([params for params in proposed if params["kind"] != "e"]))
    assert np.mean(shares) > 0.88  # .89 to .98 at other seeds; .85 with such values taken as they are


def test_a_known_objective_that_is_the_same_for_all_leaves_the_other_to_be_searched():
    best = min(map(error, TABLE))
    for seed in range(3):
        study = study_of(quick(seed=seed, cheap={1: lambda params: 2.0}))
        assert min(map(error, search(study, lambda p: (error(p), 2.0), 16))) < best + 0.09  # the three best of 160


def test_a_limit_that_is_learned_is_mostly_kept():
    def violation(params: Params) -> float:
        return params["heads"] + params["depth"] - 4.5

    shares = []
    for seed in range(2):
        proposed = constrained(study_of(known(seed=seed)), violation, 20)[8:]
        shares.append(np.mean([violation(params) <= 0 for params in proposed]))
    assert np.mean([violation(params) <= 0 for params in TABLE]) < 0.35
    assert np.mean(shares) > 0.55  # .67 to .92 at other seeds


def test_where_every_trial_is_over_a_limit_the_next_come_nearer_to_it():
    def violation(params: Params) -> float:
        return params["depth"] + 0.1 * params["heads"]  # 1.1 at the least

    later = [violation(p) for s in range(2) for p in constrained(study_of(known(seed=s)), violation, 12)[6:]]
    assert np.mean(later) < np.mean([violation(params) for params in TABLE]) - 0.5


def test_trials_stopped_at_rungs_teach_as_well():
    """Only shallow models are ever trained to the end; of the others a rung tells, one above what they would reach."""

    def misjudged(study: optuna.Study, rungs: bool) -> float:
        errors = []
        for _ in range(24):
            trial = study.ask()
            params = space(trial)
            if rungs:
                trial.set_user_attr(RUNG_VALUES, [[1, [error(params) + 1, None]]])
            predicted = study.trials[-1].system_attrs.get(PREDICTED)
            if predicted and params["depth"] > 2:
                errors.append(abs(predicted[0] - error(params)))
            if params["depth"] > 2:
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, both(params))
        return float(np.mean(errors[3:]))

    taught, untaught = (misjudged(study_of(quick(cheap={1: latency})), rungs) for rungs in (True, False))
    assert taught < 0.5 * untaught


def test_what_was_predicted_is_noted_with_cheap_values_as_they_are():
    study = study_of(quick(cheap={1: latency}))
    proposed = search(study, both, 20)
    predicted = [trial.system_attrs.get(PREDICTED) for trial in study.trials]
    assert predicted[:5] == [None] * 5
    assert [told[1] for told in predicted[5:]] == pytest.approx([latency(params) for params in proposed[5:]])
    errors = [abs(told[0] - error(params)) for told, params in zip(predicted[10:], proposed[10:], strict=True)]
    assert np.mean(errors) < 0.5 * np.std([error(params) for params in TABLE])


def test_noise_and_repeats_are_taken_in():
    generator, study = random.Random(0), study_of(known())
    for _ in range(4):
        study.enqueue_trial({"kind": "c", "heads": 4, "depth": 2, "gate": True})
    proposed = search(study, lambda p: (error(p) + generator.gauss(0, 0.1), latency(p)), 24)
    assert distinct(proposed) == 21
    assert share_of_hypervolume(proposed) > 0.93  # .964 to .996 at other seeds


def test_conditions_and_ranges():
    proposed = search(study_of(quick(tree)), of_tree, 30, tree)
    assert distinct(proposed) == 30
    assert {params["kind"] for params in proposed} == {"wide", "deep", "tiny"}
    rates = [abs(math.log10(params["rate"]) + 2) for params in proposed[10:]]
    assert np.mean(rates) < 0.75  # 0.83 by uniform draws


def test_without_a_space_it_learns_it_from_the_first_trials():
    study = study_of(quick(None, n_startup_trials=8))
    proposed = search(study, both, 30)
    assert distinct(proposed[8:]) == 22
    assert share_of_hypervolume(proposed) > share_of_hypervolume(search(study_of(RandomSampler(seed=0)), both, 30))


def test_an_optimistic_bound_is_better_than_what_comes():
    study, sampler = study_of(quick(cheap={1: latency})), quick(cheap={1: latency})
    search(study, both, 5)
    early = study.ask()
    space(early)
    assert sampler.optimistic(study, study.trials[-1], [None, 1.0]) is None
    study.tell(early, state=TrialState.FAIL)
    search(study, both, 12)
    bounds, true = [], []
    for _ in range(6):
        trial = study.ask()
        true.append(error(space(trial)))
        known = [None, None] if len(true) % 2 else [None, 1.5]
        bounds.append(sampler.optimistic(study, study.trials[-1], known))
        assert bounds[-1][1] == pytest.approx(known[1] or latency(trial.params))
        study.tell(trial, state=TrialState.FAIL)
    # At five other seeds four to six of six are better, and the others by at most 0.04 worse.
    assert all(bound[0] < value + 0.2 for bound, value in zip(bounds, true, strict=True))
    assert sum(bound[0] < value for bound, value in zip(bounds, true, strict=True)) >= 3
    assert all(bound[0] > 0 for bound in bounds)


def test_what_costs_less_is_tried_sooner():
    def cost(params: Params) -> float:
        return 4.0 ** params["depth"]

    plain = search(study_of(known()), both, 16)
    thrifty = search(study_of(known(cost=cost)), both, 16)
    assert thrifty[0]["depth"] == 1
    assert sum(map(cost, thrifty)) < 0.7 * sum(map(cost, plain))
