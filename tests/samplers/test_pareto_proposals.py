"""What the pareto sampler promises whatever it proposes: nothing twice, the same again, limits kept, studies shared."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from nas.samplers.pareto_sampler import PREDICTED
from nas.samplers.trial_history import COST, KNOWN_VALUES, RUNG_VALUES
from tests.samplers.small_table import (
    KINDS,
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
    space,
    study_of,
    tree,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_proposals")]


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


def test_a_logarithm_of_what_has_none_is_no_value():
    study = study_of(quick(logarithmic=[True, False]))
    assert distinct(search(study, lambda p: (error(p) - 1.5, latency(p)), 14)) == 14


@pytest.mark.parametrize("values", [(1.0, 1.0), (0.0, -3.0), (1e300, 1e-300)])
def test_values_that_are_all_equal_spread_the_proposals(values):
    assert distinct(search(study_of(quick()), lambda p: values, 11)) == 11


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


def test_no_bound_is_told_of_parameters_that_are_not_the_spaces():
    study = study_of(quick())
    search(study, both, 12)
    other = {"width": optuna.distributions.IntDistribution(1, 9)}
    study.add_trial(create_trial(state=TrialState.RUNNING, params={"width": 3}, distributions=other))
    assert quick().optimistic(study, study.trials[-1], [None, 1.0]) is None
