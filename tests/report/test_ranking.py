"""Spearman's correlation of predictions with what came, on orders that are known."""

import pytest

from nas.report.ranking import FEWEST, rankings
from nas.results import Objective, State
from tests.report.rows import study, trial

LOSS, ACCURACY, SIZE = Objective("val_loss", "min"), Objective("val_accuracy", "max"), Objective("params", "min")


def guessed(guesses, truths, metric="val_loss", sizes=None):
    """Complete trials with these predictions and values."""
    rows = []
    for i, (guess, truth) in enumerate(zip(guesses, truths, strict=True)):
        size = {} if sizes is None else {"params": sizes[i]}
        rows.append(trial(i, metrics={metric: truth, **size}, predicted={} if guess is None else {metric: guess}))
    return rows


@pytest.mark.parametrize(("objective", "metric"), [(LOSS, "val_loss"), (ACCURACY, "val_accuracy")])
def test_a_right_order_is_1_whatever_the_goal_and_the_scale(objective, metric):
    truths = [0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.8, 0.4]
    (ranking,) = rankings(study(guessed([t**3 / 10 for t in truths], truths, metric), [objective]))
    assert ranking.predicted.rho == pytest.approx(1.0)
    (wrong,) = rankings(study(guessed([-t for t in truths], truths, metric), [objective]))
    assert wrong.predicted.rho == pytest.approx(-1.0)


def test_two_neighbours_swapped_cost_what_the_formula_says():
    truths = [float(i) for i in range(10)]
    guesses = [1.0, 0.0, *truths[2:]]
    (ranking,) = rankings(study(guessed(guesses, truths), [LOSS]))
    assert ranking.predicted.rho == pytest.approx(1 - 6 * 2 / (10 * 99))


def test_size_alone_is_held_against_the_same_trials_and_keeps_its_sign():
    truths = [float(i) for i in range(9)]
    rows = guessed([*truths[:8], None], truths, sizes=[100.0 - i for i in range(8)] + [1e9])
    (ranking,) = rankings(study(rows, [LOSS]))
    assert ranking.params.rho == pytest.approx(-1.0)
    assert ranking.params.trials == ranking.predicted.trials == 8


def test_only_trials_that_were_trained_in_full_count():
    truths = [float(i) for i in range(8)]
    rows = guessed(truths[::-1], truths)
    rows += [trial(8 + i, State.PRUNED, metrics={"val_loss": 1.0}, predicted={"val_loss": 1.0}) for i in range(9)]
    assert rankings(study(rows, [LOSS]))[0].predicted.trials == 8


def test_few_trials_say_nothing_and_so_do_equal_ones():
    truths = [float(i) for i in range(FEWEST)]
    few = rankings(study(guessed(truths[1:], truths[1:]), [LOSS]))[0].predicted
    assert (few.rho, few.trials) == (None, FEWEST - 1)
    assert rankings(study(guessed([1.0] * FEWEST, truths), [LOSS]))[0].predicted.rho is None
    assert rankings(study(guessed(truths, [1.0] * FEWEST), [LOSS]))[0].predicted.rho is None


def test_what_follows_from_the_architecture_is_marked_as_known():
    sizes = [100.0 * i for i in range(1, 9)]
    rows = guessed([s * (1 + 1e-12) for s in sizes], sizes, "params")
    assert rankings(study(rows, [SIZE]))[0].known
    assert not rankings(study(guessed([s * 1.01 for s in sizes], sizes, "params"), [SIZE]))[0].known


def test_a_study_whose_sampler_predicts_nothing_has_no_ranking():
    assert rankings(study(guessed([None] * 9, [1.0] * 9), [LOSS])) == []
