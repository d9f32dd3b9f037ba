"""Budgets, duplicates, limits, failures: what the coordinator promises, on tables."""

import math
import random
from collections import Counter

import pytest
from optuna.trial import TrialState

from nas.architecture import Architecture
from nas.errors import OutOfReach, UsageError
from nas.results import Rung
from nas.running.budget import End, Failures
from nas.running.events import Blocked, Completed, Failed, Interrupted, Measured, Reached
from nas.space.architecture_space import Space
from tests.running.tables import Launcher, cheap, settings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_proposals")]
ROOMY = "constraints.0.max=100"
"""A limit that holds nothing back."""
TO_THE_END = ("search.stopping=false", "search.skip=false")


def states(launcher: Launcher) -> Counter[str]:
    return Counter(row.state.name for row in launcher.rows())


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random", "auto"])
def test_the_budget_is_reached_exactly_and_nothing_is_trained_twice(tmp_path, sampler):
    launcher = Launcher(tmp_path, settings(f"search.sampler={sampler}"))
    coordinator = launcher.run(budget=24)
    ids = [row.user_attrs["architecture_id"] for row in launcher.rows()]
    assert coordinator.end is End.BUDGET
    assert coordinator.counts.trained == 24
    assert len(set(ids)) == len(ids)
    assert set(launcher.disk.trained.values()) == {1}
    assert states(launcher)["RUNNING"] == 0


def test_a_larger_budget_extends_the_study(tmp_path):
    launcher = Launcher(tmp_path, settings())
    launcher.run(budget=5)
    before = {row.number: row.values for row in launcher.rows()}
    assert launcher.run(budget=9).counts.trained == 9
    assert all(launcher.rows()[number].values == values for number, values in before.items())


def test_a_finished_study_starts_nothing(tmp_path):
    launcher = Launcher(tmp_path, settings())
    launcher.run(budget=3)
    rows = len(launcher.rows())
    assert launcher.run(budget=3).end is End.BUDGET
    assert len(launcher.rows()) == rows


def test_an_exhausted_space_ends_the_search_with_every_architecture_tried(tmp_path):
    file = settings("space.hidden=[32]", "space.depth=[1,2]", "baselines=[]")
    launcher = Launcher(tmp_path, file)
    size = Space(file.spaces()).size()
    coordinator = launcher.run(budget=size + 10)
    assert coordinator.end is End.EXHAUSTED
    assert coordinator.counts.trained + coordinator.counts.skipped == size == len(launcher.rows())


def test_a_searched_learning_rate_tells_trials_of_one_architecture_apart(tmp_path):
    one = ["space.hidden=[32]", "space.depth=[1]", 'space.attention=[{kind="linear",heads=[2,4]}]', "baselines=[]"]
    launcher = Launcher(tmp_path, settings(*one, "train.learning_rate=[0.01,0.02]"))
    coordinator = launcher.run(budget=10)
    assert coordinator.counts.trained == 4
    assert {row.user_attrs["learning_rate"] for row in launcher.rows()} == {0.01, 0.02}


def test_what_is_over_a_limit_is_never_trained_and_costs_no_budget(tmp_path):
    launcher = Launcher(tmp_path, settings("constraints.0.max=6", *TO_THE_END))
    launcher.run(budget=14)
    for row in launcher.rows():
        over = cheap(Architecture.model_validate(row.user_attrs["architecture"]))["weights_mib"] > 6
        assert (row.state is TrialState.PRUNED) == over
        assert (row.constraints["weights_mib"] > 0) == over
        if over:
            assert row.user_attrs["reason"] == "infeasible:weights_mib"
            assert row.number not in launcher.disk.rungs
    assert sum(row.state is TrialState.COMPLETE for row in launcher.rows()) == 14


def test_too_few_feasible_proposals_end_the_search(tmp_path):
    launcher = Launcher(tmp_path, settings("constraints.0.max=0.001"))
    coordinator = launcher.run(budget=2)
    assert coordinator.end is End.ASKS
    assert len(launcher.rows()) == 40


def test_failures_are_told_with_their_reason_and_end_the_search_when_too_many(tmp_path):
    file = settings(ROOMY)
    every = {architecture.id: "nan" for _, architecture in Space(file.spaces()).walk()}
    launcher = Launcher(tmp_path, file, fails=every)
    coordinator = launcher.run(budget=10)
    assert coordinator.end is End.FAILURES
    assert {(row.state.name, row.user_attrs["reason"]) for row in launcher.rows()} == {("FAIL", "nan")}
    assert coordinator.counts.failed == 5


@pytest.mark.parametrize(
    ("limit", "outcomes", "too_many"),
    [
        (0.5, "FFFF", False),
        (0.5, "FFFFF", True),
        (0.5, "CCCCCFFFFF", False),
        (0.5, "CCCCCFFFFFF", True),
        (0.9, "C" * 90 + "F" * 9, False),
        (0.9, "C" * 90 + "F" * 10, True),
        (1.0, "F" * 50, False),
    ],
)
def test_how_many_failures_are_too_many(limit, outcomes, too_many):
    failures = Failures(limit)
    for outcome in outcomes:
        failures.add(TrialState.FAIL if outcome == "F" else TrialState.COMPLETE)
    assert failures.too_many() is too_many


def test_a_study_that_failed_too_often_may_be_resumed(tmp_path):
    file = settings(ROOMY)
    every = {architecture.id: "nan" for _, architecture in Space(file.spaces()).walk()}
    launcher = Launcher(tmp_path, file, fails=every)
    assert launcher.run(budget=10).end is End.FAILURES
    launcher.fails = {}
    assert launcher.run(budget=10).end is End.BUDGET


def test_failed_trials_cost_no_budget_and_may_be_retried(tmp_path):
    file = settings(ROOMY)
    baseline = file.baselines[0].architecture("decoder")
    launcher = Launcher(tmp_path, file, fails={baseline.id: "nan"})
    coordinator = launcher.coordinator(budget=3)
    coordinator.enqueue(baseline, baseline=True)
    coordinator.close()
    launcher.run(budget=3)
    assert states(launcher) == {"FAIL": 1, "COMPLETE": 3}
    launcher.fails = {}
    coordinator = launcher.coordinator(budget=4)
    coordinator.enqueue_again(0, launcher.rows()[0].user_attrs)
    coordinator.close()
    launcher.run(budget=4)
    again = launcher.rows()[-1]
    assert again.user_attrs["retry_of"] == 0
    assert again.user_attrs["architecture_id"] == baseline.id
    assert again.state is TrialState.COMPLETE


@pytest.mark.parametrize("times", [0, 2])
def test_a_trial_that_fails_is_tried_again_as_often_as_the_file_says(tmp_path, times):
    file = settings(ROOMY, f"search.retries={{error={times},oom=9}}")
    baseline = file.baselines[0].architecture("decoder")
    launcher = Launcher(tmp_path, file, fails={baseline.id: "error"})
    coordinator = launcher.coordinator(budget=3)
    coordinator.enqueue(baseline, baseline=True)
    coordinator.close()
    launcher.run(budget=3)
    tried = [row for row in launcher.rows() if row.user_attrs["architecture_id"] == baseline.id]
    assert [row.state for row in tried] == [TrialState.FAIL] * (times + 1)
    assert [row.user_attrs.get("retry", 0) for row in tried] == [*range(times + 1)]
    assert [row.user_attrs["retry_of"] for row in tried[1:]] == [row.number for row in tried[:-1]]
    assert launcher.run(budget=4).end is End.BUDGET
    assert sum(row.user_attrs["architecture_id"] == baseline.id for row in launcher.rows()) == times + 1


def test_baselines_come_first_and_teach_the_sampler(tmp_path):
    file = settings()
    launcher = Launcher(tmp_path, file)
    coordinator = launcher.coordinator(budget=2)
    coordinator.enqueue(file.baselines[0].architecture("decoder"), baseline=True)
    assert coordinator.next_job().number == 0
    row = launcher.rows()[0]
    assert row.user_attrs["baseline"]
    assert row.params["hidden"] == 64


def test_a_baseline_outside_the_space_is_run_all_the_same(tmp_path):
    launcher = Launcher(tmp_path, settings())
    outside = Architecture(hidden=128, blocks=[{"attention": {"kind": "linear", "heads": 8}}])
    coordinator = launcher.coordinator(budget=2)
    coordinator.enqueue(outside, baseline=True)
    coordinator.close()
    launcher.run(budget=2)
    assert launcher.rows()[0].user_attrs["architecture_id"] == outside.id
    assert states(launcher) == {"COMPLETE": 2}


def test_only_the_current_attempt_may_tell(tmp_path):
    launcher = Launcher(tmp_path, settings(ROOMY))
    coordinator = launcher.coordinator(budget=2)
    first = coordinator.next_job()
    assert not coordinator.report(first, Interrupted())
    second = coordinator.next_job()
    assert (second.number, second.attempt) == (first.number, first.attempt + 1)
    assert not coordinator.report(first, Measured({"weights_mib": 99.0}))
    assert "metrics" not in launcher.rows()[0].user_attrs
    assert coordinator.report(second, Measured(cheap(Architecture.model_validate(dict(second.architecture)))))


def test_a_rung_told_twice_is_kept_once(tmp_path):
    launcher = Launcher(tmp_path, settings(ROOMY))
    coordinator = launcher.coordinator(budget=1)
    job = coordinator.next_job()
    for _ in range(2):
        assert coordinator.report(job, Reached(Rung(50, 5.0, {"val_loss": 3.0})))
    assert len(launcher.rows()[0].user_attrs["rungs"]) == 1


def test_a_result_that_is_not_finite_never_becomes_complete(tmp_path):
    launcher = Launcher(tmp_path, settings(ROOMY))
    told = []
    coordinator = launcher.coordinator(budget=1, observer=told.append)
    job = coordinator.next_job()
    coordinator.report(job, Measured({"decode_ms_per_token": 1.0, "peak_inference_mib": 1.0, "weights_mib": 1.0}))
    coordinator.report(job, Completed(Rung(200, 20.0, {}), {"val_loss": float("nan")}))
    row = launcher.rows()[0]
    assert (row.state, row.user_attrs["reason"]) == (TrialState.FAIL, "nan")
    assert all(math.isfinite(value) for event in told for value in event.get("metrics", {}).values())


def test_a_trial_whose_worker_dies_three_times_is_given_up(tmp_path):
    launcher = Launcher(tmp_path, settings(ROOMY))
    coordinator = launcher.coordinator(budget=1)
    for attempt in (1, 2, 3):
        job = coordinator.next_job()
        assert (job.number, job.attempt) == (0, attempt)
        coordinator.crashed(job, "killed")
    row = launcher.rows()[0]
    assert (row.state, row.user_attrs["reason"]) == (TrialState.FAIL, "stale")
    assert coordinator.next_job().number == 1


def test_a_killed_driver_is_no_crash_of_the_trial(tmp_path):
    launcher = Launcher(tmp_path, settings(ROOMY))
    for attempt in (1, 2, 3, 4, 5):
        job = launcher.coordinator(budget=1).next_job()  # and the driver is never heard of again
        assert (job.number, job.attempt) == (0, attempt)


def test_jobs_side_by_side_hold_slots_of_their_own(tmp_path):
    launcher = Launcher(tmp_path, settings(ROOMY))
    coordinator = launcher.coordinator(budget=10)
    jobs = [coordinator.next_job() for _ in range(4)]
    assert [job.slot for job in jobs] == [0, 1, 2, 3]
    coordinator.report(jobs[1], Failed("oom"))
    assert coordinator.next_job().slot == 1


def test_no_job_beyond_the_budget_is_out_at_once(tmp_path):
    coordinator = Launcher(tmp_path, settings(ROOMY)).coordinator(budget=3)
    jobs = [coordinator.next_job() for _ in range(3)]
    assert coordinator.next_job() is None
    assert coordinator.end is None
    coordinator.report(jobs[0], Failed("nan"))
    assert coordinator.next_job() is not None


def test_prefetching_hands_out_distinct_architectures(tmp_path):
    launcher = Launcher(tmp_path, settings(ROOMY))
    coordinator = launcher.run(budget=16, prefetch=True)
    ids = [row.user_attrs["architecture_id"] for row in launcher.rows()]
    assert coordinator.counts.trained == 16
    assert len(set(ids)) == len(ids)


def test_an_objective_that_this_machine_cannot_measure_is_an_error(tmp_path):
    launcher = Launcher(tmp_path, settings("objectives.1.metric=energy_mj_per_token"))
    coordinator = launcher.coordinator(budget=2)
    job = coordinator.next_job()
    with pytest.raises(UsageError, match="energy_mj_per_token"):
        coordinator.report(job, Measured({"weights_mib": 1.0}))
    assert not coordinator.running
    assert coordinator.next_job() is None
    assert launcher.rows()[0].state is TrialState.WAITING


def test_a_machine_that_refuses_stops_the_search_and_blames_no_trial(tmp_path):
    launcher = Launcher(tmp_path, settings(ROOMY))
    coordinator = launcher.coordinator(budget=3)
    job = coordinator.next_job()
    with pytest.raises(OutOfReach, match="disk is full"):
        coordinator.report(job, Blocked("the disk is full", detail="errno 28"))
    assert launcher.rows()[0].state is TrialState.WAITING
    assert coordinator.next_job() is None


def test_events_tell_the_story_in_order(tmp_path):
    told = []
    Launcher(tmp_path, settings(ROOMY)).run(budget=1, observer=told.append)
    assert [event["type"] for event in told] == ["started", "measured", "rung", "rung", "rung", "finished"]
    assert told[-1]["counts"]["trained"] == 1


def test_equal_seeds_propose_equally_and_other_seeds_differ(tmp_path):
    def ids(seed: int) -> list[str]:
        launcher = Launcher(tmp_path, settings(f"search.seed={seed}"))
        launcher.run(budget=12)
        return [row.user_attrs["architecture_id"] for row in launcher.rows()]

    one, same, other = map(ids, (0, 0, 1))
    assert one == same != other


def test_uniform_samples_of_a_space_are_reproducible():
    space = Space(settings().spaces())
    assert space.sample(random.Random(1)) == space.sample(random.Random(1))
