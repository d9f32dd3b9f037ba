"""Many running trials: their proposals share a pool for some results, and are as good as those made one by one."""

import itertools
from typing import Any

import moocore
import numpy as np
import optuna
import pytest
from optuna.trial import Trial, TrialState

from nas.samplers import pareto_sampler, shared_pool, study_model
from nas.samplers.hypervolume_improvement import expected_improvement
from nas.samplers.pareto_sampler import PREDICTED, ParetoSampler

pytestmark = pytest.mark.slow
optuna.logging.set_verbosity(optuna.logging.WARNING)

Params = dict[str, Any]
SIDES = [f"x{i}" for i in range(4)]


class Space:
    """A space of 10⁴ points that counts how often it is drawn from."""

    def __init__(self) -> None:
        self.draws = 0

    def __call__(self, chooser: Any) -> Params:
        self.draws += 1
        return {name: chooser.suggest_int(name, 0, 9) for name in SIDES}


def values(params: Params) -> tuple[float, float]:
    x = np.array([params[name] for name in SIDES])
    return float(1 + ((x - 2) ** 2).sum()), float(1 + ((x - 6) ** 2).sum())


class Search:
    """Keeps so many trials running; they end in the order in which they began."""

    def __init__(self, running: int, **options: Any) -> None:
        self.space, self.running = Space(), list[Trial]()
        self.sampler = ParetoSampler(self.space, **{"n_startup_trials": 5, "seed": 0, **options})
        self.study = optuna.create_study(directions=["minimize"] * 2, sampler=self.sampler)
        self.count = running

    def ask(self) -> Params:
        self.running.append(self.study.ask())
        return self.space(self.running[-1])

    def fill(self) -> None:
        while len(self.running) < self.count:
            self.ask()

    def end(self) -> None:
        trial = self.running.pop(0)
        self.study.tell(trial, values(trial.params))

    def run(self, ended: int) -> "Search":
        for _ in range(ended):
            self.fill()
            self.end()
        self.fill()
        return self

    def drawn_by(self, asks: int) -> int:
        before = self.space.draws
        for _ in range(asks):
            self.ask()
        return self.space.draws - before

    def volume(self) -> float:
        done = [trial.values for trial in self.study.trials if trial.state is TrialState.COMPLETE]
        return float(moocore.hypervolume(np.array(done), ref=[150.0, 150.0]))


def test_asks_without_a_result_between_them_share_a_pool():
    search = Search(20).run(12)
    for _ in range(20 // study_model.SHARED + 1):
        search.end()
    assert search.drawn_by(1) > 50
    assert search.drawn_by(10) <= 2 * 10  # the space once when it is asked, and once when the trial is read


def test_with_few_running_trials_every_proposal_has_a_pool_of_its_own():
    search = Search(study_model.MANY - 4).run(12)
    for _ in range(3):
        assert search.drawn_by(1) > 50


def test_the_pool_is_made_anew_after_a_result_for_each_few_running_trials():
    search = Search(3 * study_model.SHARED).run(12)
    made = []
    for _ in range(13):
        search.end()
        made.append(search.drawn_by(1) > 50)
    assert set(np.diff(np.flatnonzero(made))) == {3}


def test_all_proposals_differ_before_there_is_a_model_and_after():
    search = Search(40).run(30)
    asked = [tuple(trial.params.values()) for trial in search.study.trials]
    assert len(set(asked)) == len(asked) == 70


def test_the_first_proposals_lie_as_far_apart_as_those_made_one_by_one(monkeypatch):
    def least_distance() -> float:
        points = [np.array(list(trial.params.values())) for trial in Search(60).run(0).study.trials]
        return float(np.mean([min(np.abs(a - b).sum() for b in points if b is not a) for a in points]))

    shared = least_distance()
    monkeypatch.setattr(study_model, "MANY", 10**9)
    assert shared > 0.8 * least_distance()


def test_what_is_expected_is_stored_with_each_proposal():
    search = Search(20).run(25)
    errors = [
        abs(np.log(expected / value))
        for trial in search.study.trials[-20:]
        for expected, value in zip(trial.system_attrs[PREDICTED], values(trial.params), strict=True)
    ]
    assert np.median(errors) < np.log(1.5)


def test_the_front_is_as_good_as_with_a_pool_for_each_proposal(monkeypatch):
    for name, size in {"BASE_POOL": 200, "FRESH": 40, "NEIGHBOURS": 80}.items():
        monkeypatch.setattr(pareto_sampler, name, size)
    shared = Search(24, cheap={1: lambda params: values(params)[1]}).run(48).volume()
    monkeypatch.setattr(study_model, "MANY", 10**9)
    assert shared > 0.97 * Search(24, cheap={1: lambda params: values(params)[1]}).run(48).volume()


def test_trials_that_are_of_no_pool_make_another_necessary():
    search = Search(20).run(12)
    search.ask()
    for x in range(4):  # parameters that no pool holds, as if another process had proposed them
        search.study.enqueue_trial(dict.fromkeys(SIDES, x))
        search.ask()
    assert search.drawn_by(1) > 50


def test_a_space_smaller_than_the_workers_repeats_its_points():
    def space(chooser: Any) -> Params:
        return {"x": chooser.suggest_int("x", 0, 5), "y": chooser.suggest_int("y", 0, 3)}

    study = optuna.create_study(directions=["minimize"], sampler=ParetoSampler(space, n_startup_trials=2, seed=0))
    trials = [study.ask() for _ in range(40)]
    asked = [tuple(space(trial).values()) for trial in trials]
    assert set(asked) == set(itertools.product(range(6), range(4)))


@pytest.mark.parametrize("cheap", [{}, {1: lambda params: values(params)[1]}], ids=["none known", "one known"])
def test_the_best_is_that_of_all_scores_computed_anew(cheap):
    """Only the likeliest are scored again; the reference scores all of them after each proposal."""
    search = Search(20, cheap=cheap).run(25)
    shared = search.sampler._shared
    assert shared is not None
    order = shared.order
    assert isinstance(order, shared_pool.ByScore)
    for _ in range(6):
        every = np.arange(len(shared.pool))
        beliefs = order._beliefs(every)
        with np.errstate(divide="ignore"):
            improvement_C = expected_improvement(beliefs, order._front_NM, order._reference_M)
            score_C = np.where(shared._free_C, np.log(improvement_C) + order._besides_C, -np.inf)
        best = order.best(shared._free_C)
        assert best is not None
        assert score_C[best] >= score_C.max() - 1e-6
        shared.propose()
