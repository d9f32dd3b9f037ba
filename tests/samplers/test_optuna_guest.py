"""The pareto sampler where people use it who know Optuna and nothing else of ours."""

import math
import pickle
import random
import warnings
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import PartialFixedSampler
from optuna.trial import Trial, TrialState, create_trial

import nas
from nas.samplers.pareto_sampler import PREDICTED

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fast_kernels")]
optuna.logging.set_verbosity(optuna.logging.WARNING)
RANGES = {"x": FloatDistribution(0, 1), "n": IntDistribution(1, 64, log=True), "k": CategoricalDistribution(("a", "b"))}


def asked(trial: Trial) -> dict[str, Any]:
    return {
        "x": trial.suggest_float("x", 0, 1),
        "n": trial.suggest_int("n", 1, 64, log=True),
        "k": trial.suggest_categorical("k", ("a", "b")),
    }


def bowl(params: dict[str, Any]) -> float:
    """Best at x = 0.3, n = 8 and k = b."""
    return 1 + (params["x"] - 0.3) ** 2 + 0.1 * abs(math.log2(params["n"]) - 3) + 0.2 * (params["k"] == "a")


def study_of(objectives: int = 1, **options: Any) -> optuna.Study:
    sampler = nas.ParetoSampler(**{"n_startup_trials": 5, "seed": 0, **options})
    return optuna.create_study(directions=["minimize"] * objectives, sampler=sampler)


def predicted(study: optuna.Study) -> list[int]:
    """The trials that were proposed by a model."""
    return [t.number for t in study.trials if PREDICTED in t.system_attrs]


def test_one_objective_is_optimised():
    study = study_of()
    study.optimize(lambda trial: bowl(asked(trial)), n_trials=25)
    assert study.best_value < 1.1
    assert predicted(study) == list(range(5, 25))


@pytest.mark.parametrize("objectives", [5, 9])
def test_more_than_four_objectives(objectives):
    study = study_of(objectives)

    def objective(trial: Trial) -> list[float]:
        params = asked(trial)
        return [(params["x"] - i / objectives) ** 2 + bowl(params) for i in range(objectives)]

    study.optimize(objective, n_trials=10)
    assert predicted(study) == list(range(5, 10))
    assert all(len(t.system_attrs[PREDICTED]) == objectives for t in study.trials[5:])


def test_several_jobs_share_it():
    study = study_of(2)
    study.optimize(lambda trial: (bowl(params := asked(trial)), params["x"]), n_trials=16, n_jobs=4)
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}
    assert len({tuple(t.params.items()) for t in study.trials}) == 16


def test_constraints_by_function_and_by_trial_are_the_same():
    def limited(trial: Trial) -> tuple[float, float]:
        params = asked(trial)
        trial.set_constraint("0", params["x"] - 0.5)
        return bowl(params), -params["x"]

    by_trial = study_of(2)
    by_trial.optimize(limited, n_trials=10)
    by_function = study_of(2, constraints_func=lambda trial: [trial.params["x"] - 0.5])
    by_function.optimize(lambda trial: (bowl(params := asked(trial)), -params["x"]), n_trials=10)
    assert [t.params for t in by_function.trials] == [t.params for t in by_trial.trials]
    assert [t.constraints for t in by_function.trials] == [t.constraints for t in by_trial.trials]
    kept = [all(v <= 0 for v in t.constraints.values()) for t in by_trial.trials[6:]]
    assert sum(kept) >= len(kept) - 2


def test_constraints_of_failed_trials_are_not_asked_for_and_nan_is_refused():
    study = study_of(constraints_func=lambda trial: [math.nan])
    study.optimize(lambda trial: math.nan * asked(trial)["x"], n_trials=1)
    assert study.trials[0].state is TrialState.FAIL
    with pytest.raises(ValueError, match="NaN"):
        study.optimize(lambda trial: bowl(asked(trial)), n_trials=1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300, -1e300])
def test_bad_values_do_no_harm(bad):
    study = study_of(2)

    def objective(trial: Trial) -> tuple[float, float]:
        params = asked(trial)
        return (bad if trial.number % 3 == 2 else bowl(params)), params["x"]

    study.optimize(objective, n_trials=10)
    assert len(study.trials) == 10
    assert predicted(study)[-1] == 9


def test_values_reported_before_a_trial_was_pruned_teach_the_model():
    study = study_of()

    def objective(trial: Trial) -> float:
        value = bowl(asked(trial))
        for step in range(3):
            trial.report(value + 1 / (step + 1), step)
        if trial.number % 2:
            raise optuna.TrialPruned
        return value

    study.optimize(objective, n_trials=8)
    assert [t.state is TrialState.PRUNED for t in study.trials] == [False, True] * 4
    assert predicted(study) == [5, 6, 7], "two of the first five were pruned, and count as they stood"


def test_a_pruned_trial_without_values_counts_for_nothing():
    study = study_of()

    def objective(trial: Trial) -> float:
        value = bowl(asked(trial))
        if trial.number < 3:
            raise optuna.TrialPruned
        return value

    study.optimize(objective, n_trials=10)
    assert predicted(study) == [8, 9]


def test_trials_that_were_added_are_learned_from():
    generator = random.Random(0)
    study = study_of()
    for _ in range(20):
        params = {"x": generator.random(), "n": generator.randint(1, 64), "k": generator.choice("ab")}
        study.add_trial(create_trial(params=params, distributions=RANGES, value=bowl(params)))
    study.optimize(lambda trial: bowl(asked(trial)), n_trials=8)
    assert predicted(study) == list(range(20, 28))
    assert min(t.value for t in study.trials[20:]) < 1.1


def test_trials_of_other_parameters_and_ranges_may_be_there():
    study = study_of()
    wide = FloatDistribution(-100, 100)
    study.add_trial(create_trial(params={"x": -50.0}, distributions={"x": wide}, value=9.0))
    study.add_trial(create_trial(params={"z": 1}, distributions={"z": IntDistribution(0, 3)}, value=2.0))
    study.add_trial(create_trial(params={}, distributions={}, value=3.0))
    study.optimize(lambda trial: bowl(asked(trial)), n_trials=10)
    assert len(study.trials) == 13


def test_an_enqueued_trial_runs_as_it_is_and_its_other_parameters_are_drawn():
    study = study_of()
    study.optimize(lambda trial: bowl(asked(trial)), n_trials=6)
    study.enqueue_trial({"x": 0.125})
    study.enqueue_trial({"x": 0.25, "n": 4, "k": "a"})
    study.optimize(lambda trial: bowl(asked(trial)), n_trials=3)
    assert study.trials[6].params["x"] == 0.125
    assert study.trials[7].params == {"x": 0.25, "n": 4, "k": "a"}
    assert predicted(study)[-1] == 8


def test_ask_with_fixed_distributions():
    study = study_of()
    for _ in range(8):
        trial = study.ask(fixed_distributions=RANGES)
        assert trial.params.keys() == RANGES.keys()
        study.tell(trial, bowl(trial.params))
    assert predicted(study) == [5, 6, 7]


def test_the_search_space_that_optuna_passes_decides_what_is_proposed():
    study = study_of()
    study.optimize(lambda trial: bowl(asked(trial)), n_trials=8)
    one = {"x": FloatDistribution(0.9, 1.0), "k": CategoricalDistribution(("a", "b"))}
    for _ in range(3):
        trial = study._storage.get_trial(study._storage.create_new_trial(study._study_id))
        params = study.sampler.sample_relative(study, trial, one)
        assert params.keys() == one.keys()
        assert 0.9 <= params["x"] <= 1.0


def test_some_parameters_may_be_fixed():
    study = study_of()
    study.optimize(lambda trial: bowl(asked(trial)), n_trials=6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.sampler = PartialFixedSampler({"k": "a"}, study.sampler)
    study.optimize(lambda trial: bowl(asked(trial)), n_trials=3)
    assert [t.params["k"] for t in study.trials[6:]] == ["a"] * 3


def test_a_range_that_moves_is_followed():
    """Without a space, ranges are those of the newest trials."""
    study = study_of()
    for low in (0, 10, 20):
        study.optimize(lambda trial, low=low: trial.suggest_float("x", low, low + 10) - low, n_trials=8)
    followed = [t.system_attrs["proposed_params"]["x"] for t in study.trials[17:]]
    assert all(20 <= x <= 30 for x in followed)


@pytest.mark.parametrize(
    "options",
    [{"n_startup_trials": -1}, {"cheap": {3: len}}, {"cheap": {-1: len}}, {"logarithmic": [True, False]}],
)
def test_options_that_do_not_fit_raise_value_error_as_optunas_samplers_do(options):
    with pytest.raises(ValueError, match=r"n_startup_trials|cheap|logarithmic"):
        study_of(**options).optimize(lambda trial: bowl(asked(trial)), n_trials=1)


def test_it_pickles_and_goes_on_as_before():
    study, same = study_of(), study_of()
    study.optimize(lambda trial: bowl(asked(trial)), n_trials=9)
    same.optimize(lambda trial: bowl(asked(trial)), n_trials=6)
    same.sampler = pickle.loads(pickle.dumps(same.sampler))
    same.optimize(lambda trial: bowl(asked(trial)), n_trials=3)
    assert [t.params for t in same.trials] == [t.params for t in study.trials]


def test_choices_that_are_no_plain_values():
    def objective(trial: Trial) -> float:
        return float(trial.suggest_categorical("k", [(1, 2), (3,), None, True]) is None)

    study = study_of()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns of choices that no database keeps
        study.optimize(objective, n_trials=9)
    assert len(study.trials) == 9
