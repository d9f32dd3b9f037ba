"""The pareto sampler as any Optuna study uses it: on small tables whose best trade-offs are known."""

import copy
import itertools
import math
import pickle
import random
from collections.abc import Callable, Sequence
from typing import Any

import moocore
import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial

from nas.samplers.pareto_sampler import PREDICTED, ParetoSampler
from nas.samplers.trial_history import COST, KNOWN_VALUES, RUNG_VALUES

pytestmark = pytest.mark.slow
optuna.logging.set_verbosity(optuna.logging.WARNING)

KINDS = ("a", "b", "c", "d", "e")
Params = dict[str, Any]


def space(chooser: Any) -> Params:
    return {
        "kind": chooser.suggest_categorical("kind", KINDS),
        "heads": chooser.suggest_categorical("heads", [1, 2, 4, 8]),
        "depth": chooser.suggest_int("depth", 1, 4),
        "gate": chooser.suggest_categorical("gate", [False, True]),
    }


def error(params: Params) -> float:
    """Deeper models with more heads are better, and so is the middle kind."""
    kind = KINDS.index(params["kind"])
    return 1 + 0.15 * (kind - 2) ** 2 + 1 / params["depth"] + 0.3 / params["heads"] - 0.1 * params["gate"]


def latency(params: Params) -> float:
    return 0.2 + params["depth"] * (1 + 0.1 * params["heads"] + 0.2 * params["gate"]) * (
        1.1 ** KINDS.index(params["kind"])
    )


def both(params: Params) -> tuple[float, float]:
    return error(params), latency(params)


def quick(space: Any = space, **options: Any) -> ParetoSampler:
    return ParetoSampler(space, **{"n_startup_trials": 5, "seed": 0, **options})


def known(**options: Any) -> ParetoSampler:
    """With the latency known beforehand, which halves the work."""
    return quick(cheap={1: latency}, **options)


def study_of(sampler: Any, objectives: int = 2, **options: Any) -> optuna.Study:
    options.setdefault("directions", ["minimize"] * objectives)
    return optuna.create_study(sampler=sampler, **options)


def search(
    study: optuna.Study, values: Callable[[Params], Any], count: int, space: Callable[[Any], Params] = space
) -> list[Params]:
    """So many trials; what was proposed."""
    proposed = []
    for _ in range(count):
        trial = study.ask()
        proposed.append(space(trial))
        study.tell(trial, values(proposed[-1]))
    return proposed


def distinct(proposed: Sequence[Params]) -> int:
    return len({tuple(sorted(params.items())) for params in proposed})


class EveryChoice:
    def __init__(self, choices: Sequence[Any]) -> None:
        self.choices = iter(choices)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return next(self.choices)

    def suggest_int(self, name: str, low: int, high: int) -> Any:
        return next(self.choices)


TABLE = [space(EveryChoice(c)) for c in itertools.product(KINDS, (1, 2, 4, 8), range(1, 5), (False, True))]


def share_of_hypervolume(proposed: Sequence[Params]) -> float:
    values, reference = np.array([both(params) for params in TABLE]), (3.0, 12.0)
    found = np.array([both(params) for params in proposed])
    return moocore.hypervolume(found, ref=reference) / moocore.hypervolume(values, ref=reference)


@pytest.mark.parametrize(("options", "seeds"), [({}, 2), ({"cheap": {1: latency}}, 3)], ids=["predicted", "known"])
def test_it_finds_more_of_the_front_than_random_draws(options, seeds):
    ours, random_ones = [], []
    for seed in range(seeds):
        ours.append(share_of_hypervolume(search(study_of(quick(seed=seed, **options)), both, 30)))
        random_ones.append(share_of_hypervolume(search(study_of(RandomSampler(seed=seed)), both, 30)))
    assert np.mean(ours) > 0.97
    assert 1 - np.mean(ours) < (1 - np.mean(random_ones)) / 4


def test_nothing_is_proposed_twice_while_new_ones_are_left_and_then_it_repeats():
    def small(chooser: Any) -> Params:
        return {"kind": chooser.suggest_categorical("kind", KINDS), "depth": chooser.suggest_int("depth", 1, 4)}

    study = study_of(quick(small))
    proposed = search(study, lambda p: (KINDS.index(p["kind"]) - p["depth"], p["depth"]), 23, small)
    assert distinct(proposed[:20]) == 20


def test_a_space_smaller_than_the_startup_is_searched_and_repeated():
    def small(chooser: Any) -> Params:
        return {"depth": chooser.suggest_int("depth", 1, 3)}

    proposed = search(study_of(quick(small)), lambda p: (p["depth"], -p["depth"]), 12, small)
    assert distinct(proposed[:3]) == 3


@pytest.mark.parametrize("empty", [lambda chooser: {}, None])
def test_a_space_without_choices_has_one_proposal(empty):
    assert search(study_of(quick(empty)), lambda p: (1.0, 2.0), 8, lambda chooser: {}) == [{}] * 8


def test_one_seed_gives_the_same_proposals_and_another_others():
    one, same, other = (search(study_of(known(seed=seed)), both, 10) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def unfinished(study: optuna.Study, space: Callable[[Any], Params], values: Any, count: int) -> list[Params]:
    """As a search with rungs goes: every fourth trial is stopped at the first, and every seventh fails."""
    proposed = []
    for _ in range(count):
        trial = study.ask()
        proposed.append(space(trial))
        error, latency = values(proposed[-1])
        trial.set_user_attr(KNOWN_VALUES, [None, latency])
        trial.set_user_attr(RUNG_VALUES, [[10, [2 * error, None]]])
        if trial.number % 7 == 5:
            study.tell(trial, state=TrialState.FAIL)
        elif trial.number % 4 == 3:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            trial.set_user_attr(RUNG_VALUES, [[10, [2 * error, None]], [20, [error, None]]])
            trial.set_user_attr(COST, 1.0 + proposed[-1].get("depth", 1))
            trial.set_constraint("size", proposed[-1].get("depth", 1) - 3.5)
            study.tell(trial, (error, latency))
    return proposed


def tree(chooser: Any) -> Params:
    """What there is to choose depends on the kind."""
    kind = chooser.suggest_categorical("kind", ["wide", "deep", "tiny"])
    chosen = {"kind": kind, "rate": chooser.suggest_float("rate", 1e-4, 1e-1, log=True)}
    if kind == "wide":
        chosen["width"] = chooser.suggest_int("width", 8, 64, step=8)
    elif kind == "deep":
        chosen |= {"depth": chooser.suggest_int("depth", 1, 6), "drop": chooser.suggest_float("drop", 0, 0.5, step=0.1)}
    return chosen


def of_tree(params: Params) -> tuple[float, float]:
    size = params.get("width", 0) / 16 + params.get("depth", 0)
    return 3 - 0.4 * size**0.7 + abs(math.log10(params["rate"]) + 2) + params.get("drop", 0), 0.1 + size


def cheap_of_tree(params: Params) -> float:
    return of_tree(params)[1]


CASES: dict[str, tuple[dict[str, Any], Callable[[Any], Params], Any]] = {
    "plain": ({"space": space}, space, both),
    "cheap": ({"space": space, "cheap": {1: latency}, "limits": {"depth": lambda p: p["depth"] - 3}}, space, both),
    "conditions": ({"space": tree}, tree, of_tree),
    "no space": ({"space": None}, space, both),
    "no space, cheap": ({"space": None, "cheap": {1: cheap_of_tree}}, tree, of_tree),
    "own features": ({"space": space, "features": lambda p: [error(p), p["depth"]]}, space, both),
}


@pytest.mark.parametrize("case", CASES)
def test_a_new_sampler_goes_on_where_another_stopped(case):
    options, asked, values = CASES[case]
    whole = unfinished(study_of(quick(**options)), asked, values, 15)
    study = study_of(quick(**options))
    parts = unfinished(study, asked, values, 3)
    for count in (6, 3, 3):
        study.sampler = quick(**options)
        parts += unfinished(study, asked, values, count)
    assert parts == whole


def test_a_study_loaded_from_its_database_goes_on_as_if_it_had_never_stopped(tmp_path):
    url, options = f"sqlite:///{tmp_path}/study.db", {"cheap": {1: latency}}
    whole = unfinished(study_of(quick(**options)), space, both, 14)
    study = study_of(quick(**options), storage=url, study_name="one")
    parts = unfinished(study, space, both, 9)
    parts += unfinished(optuna.load_study(storage=url, study_name="one", sampler=quick(**options)), space, both, 5)
    assert parts == whole


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_one_to_four_objectives(objectives):
    def values(params: Params) -> list[float]:
        return [error(params), latency(params), float(params["heads"]), -error(params) * latency(params)][:objectives]

    study = study_of(quick(), objectives)
    assert distinct(search(study, values, 11)) == 11
    assert len(study.trials[-1].system_attrs[PREDICTED]) == objectives


@pytest.mark.parametrize(
    ("objectives", "options", "message"),
    [
        (2, {"cheap": {2: latency}}, "cheap"),
        (2, {"logarithmic": [True]}, "logarithmic"),
    ],
)
def test_what_does_not_fit_the_study_is_an_error(objectives, options, message):
    with pytest.raises(ValueError, match=message):
        space(study_of(quick(**options), objectives).ask())


def test_to_maximise_is_to_minimise_the_opposite():
    least = search(study_of(quick()), both, 11)
    study = study_of(quick(), directions=["maximize", "minimize"])
    assert search(study, lambda p: (-error(p), latency(p)), 11) == least
    assert study.trials[-1].system_attrs[PREDICTED][0] < 0


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


def test_a_logarithm_of_what_has_none_is_no_value():
    study = study_of(quick(logarithmic=[True, False]))
    assert distinct(search(study, lambda p: (error(p) - 1.5, latency(p)), 14)) == 14


@pytest.mark.parametrize("values", [(1.0, 1.0), (0.0, -3.0), (1e300, 1e-300)])
def test_values_that_are_all_equal_spread_the_proposals(values):
    assert distinct(search(study_of(quick()), lambda p: values, 11)) == 11


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


def test_what_has_no_cheap_value_is_never_proposed():
    def holes(params: Params) -> float:
        return math.nan if params["kind"] == "c" else latency(params)

    study = study_of(quick(cheap={1: holes}))
    study.enqueue_trial({"kind": "c", "heads": 1, "depth": 1, "gate": False})
    proposed = search(study, both, 12)
    assert [params["kind"] == "c" for params in proposed] == [True] + [False] * 11

    def most(params: Params) -> float:
        return math.nan if params["depth"] > 1 or params["heads"] > 1 else latency(params)

    proposed = search(study_of(quick(cheap={1: most})), both, 14)  # 10 of these are left
    assert {(params["depth"], params["heads"]) for params in proposed} == {(1, 1)}
    assert distinct(proposed) == 10


def test_a_limit_that_is_known_is_kept():
    study = study_of(quick(limits={"depth": lambda params: params["depth"] - 2}))
    assert all(params["depth"] <= 2 for params in search(study, both, 12))


def constrained(study: optuna.Study, violation: Callable[[Params], float], count: int) -> list[Params]:
    proposed = []
    for _ in range(count):
        trial = study.ask()
        proposed.append(space(trial))
        trial.set_constraint("limit", violation(proposed[-1]))
        study.tell(trial, both(proposed[-1]))
    return proposed


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


def test_a_limit_that_is_never_passed_changes_nothing():
    assert constrained(study_of(known()), lambda params: -1.0, 12) == search(study_of(known()), both, 12)


def test_a_constraint_may_have_any_name():
    def proposals(name: str) -> list[Params]:
        study, proposed = study_of(known()), []
        for _ in range(10):
            trial = study.ask()
            proposed.append(space(trial))
            trial.set_constraint(name, proposed[-1]["depth"] - 2.5 + 0.1 * proposed[-1]["heads"])
            trial.set_user_attr(COST, 1.0 + KINDS.index(proposed[-1]["kind"]))
            study.tell(trial, both(proposed[-1]))
        return proposed

    assert proposals("cost") == proposals("size")


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


def test_a_trial_that_waits_in_the_queue_is_not_proposed_besides():
    first = search(study_of(known()), both, 8)
    study = study_of(known())
    search(study, both, 7)
    trial = study.ask()
    study.enqueue_trial(first[7])
    assert space(trial) != first[7]
    assert space(study.ask()) == first[7]


def test_a_rung_that_says_nothing_yet_leaves_a_trial_as_expected():
    def following(rungs: bool) -> Params:
        study = study_of(quick())
        search(study, both, 8)
        trial = study.ask()
        space(trial)
        if rungs:
            trial.set_user_attr(RUNG_VALUES, [[1, [0.1, None]]])
        return space(study.ask())

    assert following(rungs=True) == following(rungs=False)


def test_the_last_new_ones_are_looked_for_harder():
    def wide(chooser: Any) -> Params:
        return {"n": chooser.suggest_int("n", 0, 4999)}

    sampler = quick(wide, limits={"n": lambda params: params["n"] - 49})
    proposed = search(study_of(sampler), lambda p: (float(p["n"]), -float(p["n"])), 25, wide)
    assert distinct(proposed) == 25
    assert max(params["n"] for params in proposed) < 50


def test_threads_may_share_it():
    study = study_of(known())
    study.optimize(lambda trial: both(space(trial)), n_trials=14, n_jobs=2)
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert distinct([trial.params for trial in study.trials]) == 14


def test_two_studies_may_share_it():
    def other(params: Params) -> tuple[float, float]:
        return -error(params), latency(params)

    alone = [search(study_of(quick()), values, 8) for values in (both, other)]
    assert alone[0] != alone[1]
    sampler = quick()
    studies = [study_of(sampler, study_name="one name") for _ in range(2)]
    turns = [search(studies[turn % 2], (both, other)[turn % 2], 1)[0] for turn in range(16)]
    assert [turns[0::2], turns[1::2]] == alone


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda sampler: pickle.loads(pickle.dumps(sampler))])
def test_a_copy_goes_on_as_the_original(copied):
    study = study_of(known())
    search(study, both, 8)
    twin = copy.deepcopy(study)
    twin.sampler = copied(study.sampler)
    assert search(twin, both, 3) == search(study, both, 3)


def test_enqueued_trials_are_run_as_they_are_and_completed_at_random():
    study = study_of(quick())
    study.enqueue_trial({"kind": "e", "heads": 8, "depth": 4, "gate": True})
    study.enqueue_trial({"kind": "d"})
    proposed = search(study, both, 10)
    assert proposed[0] == {"kind": "e", "heads": 8, "depth": 4, "gate": True}
    assert proposed[1]["kind"] == "d"
    assert distinct(proposed) == 10


def test_failed_trials_are_not_proposed_again():
    study = study_of(known())
    proposed = []
    for number in range(14):
        trial = study.ask()
        proposed.append(space(trial))
        if number % 2:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, both(proposed[-1]))
    assert distinct(proposed) == 14


def test_trials_that_were_never_trained_do_not_keep_it_from_its_model():
    study = study_of(quick(n_startup_trials=2))
    for number in range(40):
        trial = study.ask()
        params = space(trial)
        if number < 34:
            trial.set_constraint("limit", 1.0)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, both(params))
    assert PREDICTED in study.trials[-1].system_attrs


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


def test_without_a_space_conditions_are_learned_too():
    def asked(chooser: Any) -> Params:
        kind = chooser.suggest_categorical("kind", ["wide", "tiny"])
        if kind == "wide":
            return {"kind": kind, "width": chooser.suggest_int("width", 1, 30)}
        return {"kind": kind, "depth": chooser.suggest_int("depth", 1, 30)}

    def values(params: Params) -> tuple[float, float]:
        return 1 / params.get("width", 1) + 0.5 / params.get("depth", 1), sum(
            v for v in params.values() if v in range(99)
        )

    proposed = search(study_of(quick(None, n_startup_trials=8)), values, 30, asked)
    assert distinct(proposed[8:]) == 22


def test_a_parameter_that_the_space_does_not_tell_is_drawn():
    def more(chooser: Any) -> Params:
        return space(chooser) | {"extra": chooser.suggest_float("extra", 0, 1)}

    proposed = search(study_of(quick()), lambda p: (error(p) + p["extra"], latency(p)), 12, more)
    assert len({params["extra"] for params in proposed}) == 12


def test_a_trial_of_other_parameters_counts_as_it_turned_out_and_teaches_nothing():
    study = study_of(quick())
    study.add_trial(create_trial(values=[0.5, 0.1], params={}, distributions={}))
    other = {"width": optuna.distributions.IntDistribution(1, 9)}
    study.add_trial(create_trial(values=[0.4, 0.2], params={"width": 3}, distributions=other))
    proposed = search(study, both, 12)
    assert distinct(proposed) == 12
    assert all(trial.system_attrs[PREDICTED][0] > 0.8 for trial in study.trials[9:])


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


def test_no_bound_is_told_of_parameters_that_are_not_the_spaces():
    study = study_of(quick())
    search(study, both, 12)
    other = {"width": optuna.distributions.IntDistribution(1, 9)}
    study.add_trial(create_trial(state=TrialState.RUNNING, params={"width": 3}, distributions=other))
    assert quick().optimistic(study, study.trials[-1], [None, 1.0]) is None


def test_what_costs_less_is_tried_sooner():
    def cost(params: Params) -> float:
        return 4.0 ** params["depth"]

    plain = search(study_of(known()), both, 16)
    thrifty = search(study_of(known(cost=cost)), both, 16)
    assert thrifty[0]["depth"] == 1
    assert sum(map(cost, thrifty)) < 0.7 * sum(map(cost, plain))
