"""Trainings that were saved, counted by hand; and bounds held against what came."""

import pytest

from nas.report.effort import BoundCheck, Effort
from nas.results import Objective, State
from tests.report.rows import stopped, study, trial


def test_a_stopped_trial_saves_the_steps_that_it_did_not_take_at_its_own_pace():
    fast, slow = stopped(0, (50, 1.0)), stopped(1, (50, 4.0), (100, 10.0), reason="infeasible:val_loss")
    effort = Effort.of(study([fast, slow, trial(2), trial(3, State.FAIL, reason="nan", rungs=fast.rungs)]))
    assert effort.stopped == 2
    assert effort.trainings == pytest.approx(150 / 200 + 100 / 200)
    assert effort.seconds == pytest.approx(150 * 1.0 / 50 + 100 * 10.0 / 100)


def test_what_was_never_trained_is_counted_by_its_reason():
    reasons = ["skipped", "infeasible:weights_mib", "skipped", "infeasible:params", "skipped", ""]
    effort = Effort.of(study([trial(i, State.PRUNED, reason=reason) for i, reason in enumerate(reasons)]))
    assert (effort.skipped, effort.infeasible, effort.stopped) == (3, 2, 0)
    assert effort.trainings == effort.seconds == 0


def test_duplicates_are_the_sum_over_all_rows_that_tell_of_them():
    rows = [trial(0), trial(1, redraws=0), trial(2, State.FAIL, redraws=2), trial(3, State.RUNNING, redraws=5)]
    assert Effort.of(study(rows)).redraws == 7
    assert Effort.of(study(rows[:2])).redraws == 0
    assert Effort.of(study(rows[:1])).redraws is None


def test_without_the_length_of_a_training_there_is_no_share_of_it():
    effort = Effort.of(study([stopped(0, (50, 1.0))], steps=None))
    assert (effort.stopped, effort.trainings, effort.seconds) == (1, None, None)


def complete(number, loss, accuracy, bound):
    return trial(number, metrics={"val_loss": loss, "val_accuracy": accuracy, "params": 100.0}, bound=bound)


def test_a_bound_is_missed_where_a_trained_objective_is_better_in_the_direction_of_its_goal():
    rows = [
        complete(0, 2.0, 0.5, (1.9, 0.6, 100.0)),  # both worse than bounded
        complete(1, 1.8, 0.5, (1.9, 0.6, 100.0)),  # the loss is lower
        complete(2, 2.0, 0.7, (1.9, 0.6, 100.0)),  # the accuracy is higher
        complete(3, 1.8, 0.7, (1.9, 0.6, 100.0)),  # both, and still one trial
        complete(4, 1.9, 0.6, (1.9, 0.6, 100.0)),  # just as good
        complete(5, 2.0, 0.5, (1.9, 0.6, 200.0)),  # parameters are known, and no miss
        complete(6, 1.0, 0.9, ()),  # no bound
        trial(7, State.PRUNED, reason="skipped", metrics={"params": 100.0}, bound=(1.9, 0.6, 100.0)),
    ]
    assert BoundCheck.of(study(rows)) == BoundCheck(trials=6, missed=3, objectives=2)


def test_where_nothing_is_trained_for_nothing_can_be_missed():
    rows = [trial(0, metrics={"params": 10.0}, bound=(20.0,))]
    assert BoundCheck.of(study(rows, [Objective("params", "min")])).trials == 0
