"""Which trials are stopped at a rung: the rule on planted trials, and what it saves and loses on families of curves."""

import random
from statistics import mean

import numpy as np
import pytest

from nas.reasons import Verdict
from nas.results import Constraint, Objective, Rung
from nas.running.stopping_rule import NEVER_STOPPED, StoppingRule, TrialProgress, ordered
from tests.running.curves import LOSS_LATENCY, STEPS, EarlyEndings, Family, Outcome, Trial, never_stopped, ours, search

pytestmark = pytest.mark.slow
GAIN = 0.7


def course(
    at: float, latency: float, *, final: float | None = None, feasible: bool = True, **metrics: float
) -> TrialProgress:
    """A trial that stands at this loss at the first rung, or has come to `final`."""
    rungs = [Rung(STEPS[0], 10.0, {"val_loss": at, "train_seconds": 10.0})]
    known = {"decode_ms_per_token": latency, **metrics}
    if final is None:
        return TrialProgress(known, rungs)
    return TrialProgress({**known, "val_loss": final, "train_seconds": 40.0}, rungs, complete=True, feasible=feasible)


def study(*others: TrialProgress, objectives=LOSS_LATENCY, constraints=()) -> StoppingRule:
    """Eight trials that came to 0.7 of what they had at the first rung, at 1.4 to 2.1 and 2.0 ms, then these."""
    stopping = StoppingRule(objectives, constraints)
    whole = [course(at, 2.0, final=GAIN * at) for at in (2.0, 2.2, 2.4, 2.6, 2.7, 2.8, 2.9, 3.0)]
    for number, known in enumerate([*whole, *others], start=20):
        stopping.update(number, known)
    return stopping


def test_what_is_dominated_beyond_hope_is_stopped():
    assert study(course(2.5, 3.0)).verdict(28) == Verdict(STEPS[0], "dominated")


@pytest.mark.parametrize(
    ("at", "latency", "why"),
    [(2.5, 1.9, "no other is as fast"), (1.9, 3.0, "it may end lowest"), (2.0, 2.0, "it may end as the best did")],
)
def test_what_may_reach_the_front_goes_on(at, latency, why):
    assert study(course(at, latency)).verdict(28) is None, why


def test_a_goal_to_make_large_counts_the_other_way():
    objectives = (Objective("val_accuracy", "max"),)
    stopping = StoppingRule(objectives, ())
    for number in range(20):
        rungs = [Rung(STEPS[0], 10.0, {"val_accuracy": 0.4})]
        stopping.update(20 + number, TrialProgress({"val_accuracy": 0.5 + 0.01 * min(number, 4)}, rungs, complete=True))
    for accuracy, goes_on in ((0.2, False), (0.4, True), (0.5, True)):
        stopping.update(40, TrialProgress({}, [Rung(STEPS[0], 10.0, {"val_accuracy": accuracy})]))
        assert (stopping.verdict(40) is None) is goes_on


def test_nobody_is_stopped_while_few_trials_are_known():
    stopping = StoppingRule(LOSS_LATENCY, ())
    for number in range(5):
        stopping.update(number, course(2.0, 2.0, final=1.4))
        stopping.update(6, course(9.0, 9.0))
        assert stopping.verdict(6) is None
    stopping.update(5, course(2.0, 2.0, final=1.4))
    assert stopping.verdict(6)


def test_what_is_over_a_limit_dominates_nobody():
    stopping = study(course(2.5, 3.0))
    for number in range(20, 28):
        stopping.update(number, course(2.5, 2.0, final=1.75, feasible=False))
    assert stopping.verdict(28) is None
    assert not stopping.dominated([1.8, 3.0])


def test_a_trial_that_failed_tells_nothing():
    stopping = study(course(2.5, 3.0))
    for number in range(20, 27):
        stopping.forget(number)
    assert stopping.verdict(28) is None


def test_a_rung_without_the_objective_stops_nobody():
    stopping = study()
    stopping.update(28, TrialProgress({"decode_ms_per_token": 3.0}, [Rung(STEPS[0], 10.0, {})]))
    assert stopping.verdict(28) is None


def test_one_trial_in_ten_is_never_stopped():
    stopping = study()
    for number in range(30, 50):
        stopping.update(number, course(2.5, 3.0))
        assert (stopping.verdict(number) is None) == (number % NEVER_STOPPED == 9)


def test_the_best_third_of_a_rung_goes_on_even_beyond_hope():
    """Two layers below the front, and so many behind it that it is among the best third all the same."""
    hopeless = course(2.5, 3.0)
    worse = [course(2.9, 5.0 + i) for i in range(24)]
    assert study(hopeless).verdict(28)
    assert study(hopeless, *worse).verdict(28) is None
    assert study(hopeless, *worse).verdict(40)


def test_a_limit_on_a_trained_metric_stops_what_cannot_keep_it():
    limits = (Constraint("val_loss", max=1.0), Constraint("train_seconds", max=41.0))
    verdict = study(course(2.5, 1.0), constraints=limits).verdict(28)
    assert (verdict.step, verdict.reason) == (STEPS[0], "infeasible:val_loss")
    assert verdict.violations["val_loss"] == pytest.approx(0.75)
    assert study(course(1.2, 1.0), constraints=limits).verdict(28) is None
    slow = Constraint("train_seconds", max=39.0)
    assert study(course(1.2, 1.0), constraints=(slow,)).verdict(28).reason == "infeasible:train_seconds"
    assert study(course(2.5, 1.0), constraints=(Constraint("val_loss", min=1.0),)).verdict(28) is None
    assert study(course(1.2, 1.0), constraints=(Constraint("val_loss", min=1.0),)).verdict(28)


def test_what_cheap_limits_say_is_not_judged_at_rungs():
    limit = Constraint("weights_mib", max=1.0)
    assert study(course(1.9, 1.0, weights_mib=5.0), constraints=(limit,)).verdict(28) is None


def test_the_order_of_arrival_changes_nothing():
    trials = list(Family(3).proposals(40, LOSS_LATENCY))
    known = {n: trial.course(3 if n < 25 else 1 + n % 2) for n, trial in enumerate(trials)}
    found = set()
    for seed in range(4):
        stopping = StoppingRule(LOSS_LATENCY, ())
        for number in random.Random(seed).sample(sorted(known), len(known)):
            stopping.update(number, known[number])
        found.add(tuple(stopping.verdict(number) is None for number in range(25, 40)))
    assert len(found) == 1
    assert set(*found) == {True, False}


def test_layers_come_first_and_a_layer_is_spread_out():
    first, second = [[0.0, 4.0], [1.0, 3.0], [2.0, 2.0], [4.0, 0.0]], [[1.0, 5.0], [5.0, 1.0]]
    rows = np.array([*second, *first])
    assert ordered(rows) == [2, 5, 4, 3, 0, 1]


def test_values_that_dominate_nothing_and_equal_ones_are_not_dominated():
    stopping = study()
    assert not stopping.dominated([1.4, 2.0])
    assert stopping.dominated([1.4, 2.1])
    assert not stopping.dominated([1.3, 9.0])
    assert not stopping.dominated([float("nan"), 9.0])


def by_order_alone(stopping: StoppingRule, known: dict[int, TrialProgress], number: int) -> bool:
    """Successive halving over several objectives, by the values at the rung: what our rule is held against."""
    step = known[number].rungs[-1].step
    peers = {n: c for n, c in known.items() if c.has_reached(step)}
    values = [[c.curve("val_loss", step).at, c.metrics["decode_ms_per_token"]] for c in peers.values()]
    return ordered(np.array(values)).index(list(peers).index(number)) < max(1.0, len(peers) / 3)


def searches(
    goes_on: EarlyEndings, trials: int = 48, seeds: int = 10, workers: int = 1, **options: float
) -> list[Outcome]:
    families = (list(Family(seed, **options).proposals(trials, LOSS_LATENCY)) for seed in range(seeds))
    return [search(family, LOSS_LATENCY, goes_on, workers) for family in families]


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("noise", [0.006, 0.02])
def test_much_training_is_saved_and_next_to_nothing_of_the_front_is_lost(workers, noise):
    found = searches(ours, workers=workers, noise=noise)
    assert mean(outcome.saved for outcome in found) > 0.14
    assert mean(outcome.lost for outcome in found) < 0.002
    assert mean(outcome.missed / outcome.front for outcome in found) < 0.02


def test_halving_alone_saves_more_and_loses_the_front():
    found = searches(by_order_alone)
    assert mean(outcome.saved for outcome in found) > 0.4
    assert mean(outcome.lost for outcome in found) > 0.02
    assert mean(outcome.missed / outcome.front for outcome in found) > 0.3


def test_the_first_layer_of_a_rung_always_goes_on():
    def checked(stopping: StoppingRule, known: dict[int, TrialProgress], number: int) -> bool:
        goes_on = ours(stopping, known, number)
        step = known[number].rungs[-1].step
        peers = {n: c for n, c in known.items() if c.has_reached(step)}
        own = np.array(values(peers[number], step))
        others = np.array([values(c, step) for c in peers.values()])
        dominated = ((others <= own).all(axis=1) & (others < own).any(axis=1)).any()
        assert goes_on or dominated
        return goes_on

    def values(course: TrialProgress, step: int) -> list[float]:
        end = course.metrics["val_loss"] if course.complete else course.curve("val_loss", step).at
        return [end, course.metrics["decode_ms_per_token"]]

    assert any(outcome.stopped for outcome in searches(checked, seeds=4))


def test_nothing_is_saved_without_the_rule():
    assert {(o.saved, o.lost, o.stopped) for o in searches(never_stopped, seeds=2)} == {(0.0, 0.0, ())}


BLOOMER = Trial({"decode_ms_per_token": 2.0, "weights_mib": 1.0}, (2.9, 2.85, 1.0))
"""Hardly falls until half of its training is over, and then beats all others."""


def usual(count: int) -> list[Trial]:
    return [Trial({"decode_ms_per_token": 2.0, "weights_mib": 1.0}, (2.4 + i % 7 / 50, 2.0, 1.7)) for i in range(count)]


def test_a_late_bloomer_is_stopped_where_none_was_seen_whole():
    """The price of stopping: what no earlier curve has done is not believed of a new one."""
    assert search([*usual(12), BLOOMER], LOSS_LATENCY, ours).stopped == (12,)


@pytest.mark.parametrize("first", [0, 3, 5])
def test_a_late_bloomer_goes_on_where_one_was_seen_whole(first):
    """Among the first six trials, which are all trained in full."""
    trials = usual(12)
    trials[first] = BLOOMER
    assert 12 not in search([*trials, BLOOMER], LOSS_LATENCY, ours).stopped


def test_one_late_bloomer_in_ten_goes_on_in_any_case_and_saves_those_after_it():
    trials = [*usual(17), BLOOMER, BLOOMER, BLOOMER, BLOOMER, *usual(3), BLOOMER]
    assert [n for n in search(trials, LOSS_LATENCY, ours).stopped if trials[n] is BLOOMER] == [17, 18]
