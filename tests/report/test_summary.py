"""How trials ended, and how the hypervolume grew."""

import math
from dataclasses import replace

import pytest

from nas import pareto
from nas.report.summary import Role, Summary
from nas.report.words import outcomes
from nas.results import Objective, State, StudyRecord


@pytest.fixture
def summary(record: StudyRecord) -> Summary:
    return Summary.of(record)


def test_every_trial_has_the_role_of_its_ending(summary):
    front = {trial.number for trial in pareto.front_of(summary.record)}
    for trial in summary.record.trials:
        role = summary.roles[trial.number]
        assert (role is Role.FRONT) == (trial.number in front)
        assert (role is Role.FAILED) == (trial.state is State.FAIL)
        assert (role is Role.INFEASIBLE) == trial.reason.startswith("infeasible")
        assert (role is Role.STOPPED) == (trial.state is State.PRUNED and bool(trial.rungs))


@pytest.mark.parametrize(
    ("changes", "role"),
    [
        ({"state": State.RUNNING}, Role.OPEN),
        ({"state": State.WAITING}, Role.OPEN),
        ({"state": State.PRUNED, "rungs": (), "reason": "duplicate"}, Role.SKIPPED),
        ({"metrics": {"val_loss": math.nan}}, Role.UNMEASURED),
        ({"violations": {"weights_mib": 0.5}}, Role.INFEASIBLE),
    ],
)
def test_the_rarer_endings(record, changes, role):
    changed = replace(record, trials=(replace(record.trials[0], **changes),))
    assert Summary.of(changed).roles == {0: role}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"reason": "dominated"}, "at step 100: could not reach the front"),
        ({"reason": "skipped", "rungs": ()}, "even its optimistic forecast was dominated"),
        ({"violations": {"val_loss": 0.5}}, "at step 100: would end over the limit on val_loss"),
        ({"violations": {"weights_mib": 0.5}, "rungs": ()}, "over the limit on weights_mib"),
    ],
)
def test_what_ended_early_says_why(record, changes, why):
    stopped = next(t for t in record.trials if t.state is State.PRUNED and len(t.rungs) == 2)
    summary = Summary.of(replace(record, trials=(replace(stopped, **changes),)))
    assert [phrase for _, phrase, _ in outcomes(summary)] == [why]


def test_the_knee_is_a_member_and_a_front_of_one_has_none(record, summary):
    assert summary.knee in {trial.number for trial in summary.front}
    assert Summary.of(replace(record, trials=record.trials[:1])).knee is None


def test_the_hypervolume_never_falls_and_ends_at_that_of_the_front(summary):
    history, record = summary.history, summary.record
    assert len(history.volumes) == len(history.seconds) == record.trained_count()
    assert list(history.volumes) == sorted(history.volumes)
    assert list(history.seconds) == sorted(history.seconds)
    goals = [objective.goal for objective in record.objectives]
    values = [trial.values(record.objectives) for trial in summary.front]
    assert history.volumes[-1] == pytest.approx(pareto.hypervolume(values, goals, history.reference))


def test_a_night_between_two_launches_does_not_count(record, summary):
    night = 8 * 3600.0
    later = tuple(
        t if t.number < 15 else replace(t, started=t.started + night, finished=t.finished + night)
        for t in record.trials
    )
    resumed = Summary.of(replace(record, trials=later))
    assert resumed.busy_seconds < summary.busy_seconds + 60
    assert max(resumed.history.seconds) < summary.busy_seconds + 60


def test_without_an_eligible_trial_there_is_no_history(record):
    assert Summary.of(replace(record, trials=())).history is None


def test_a_single_objective_is_drawn_over_the_order_of_the_trials(record):
    alone = Summary.of(replace(record, objectives=(Objective("val_loss", "min"),)))
    assert [axis.metric for axis in alone.axes] == ["val_loss", "trial"]
    assert alone.value(record.trials[3], alone.axes[1]) == 3.0
