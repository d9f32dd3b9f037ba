"""Trials that end early, in whole searches: what their rows hold, what they count as, what a resume makes of them."""

import random

import pytest
from optuna.trial import FrozenTrial, TrialState

from nas import pareto
from nas.architecture import Architecture
from nas.reasons import Control
from nas.results import Rung, StudyRecord
from nas.running import early_endings
from nas.running import serial_executor as serial
from nas.running.budget import End
from nas.running.events import Completed, Failed, Interrupted, Job, Measured, Reached
from nas.running.proposer import Proposer
from nas.running.stop_control import StopControl
from nas.study.store import to_result
from tests.running.mortal import Killed, MortalDatabase
from tests.running.tables import RUNGS, Launcher, cheap, settings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_proposals")]
PLAIN = ("search.sampler=random", "constraints.0.max=100")
METRICS = {"decode_ms_per_token": 1.0, "peak_inference_mib": 1.0, "weights_mib": 1.0}
BOUND = [9.0, 9.0, 9.0]


def stopped(launcher: Launcher) -> list[FrozenTrial]:
    return [row for row in launcher.rows() if row.user_attrs.get("reason") == "dominated"]


def skipped(launcher: Launcher) -> list[FrozenTrial]:
    return [row for row in launcher.rows() if row.user_attrs.get("reason") == "skipped"]


@pytest.fixture
def foreseen(monkeypatch):
    """What the sampler says a measured trial may come to at best: fits the cheaper ones, is too high for the others."""

    def optimistic(self, number, metrics):
        return [3.0 - metrics["weights_mib"] / 15, metrics["decode_ms_per_token"], metrics["peak_inference_mib"]]

    monkeypatch.setattr(Proposer, "optimistic", optimistic)


def trained_in_full(coordinator, job: Job, final: float, accuracy: float = 1.0) -> None:
    coordinator.report(job, Measured(METRICS))
    for step in RUNGS[:-1]:
        coordinator.report(job, Reached(Rung(step, step / 10, {"val_loss": 2 * final})))
    metrics = {"val_loss": final, "val_accuracy": accuracy}
    coordinator.report(job, Completed(Rung(RUNGS[-1], 20.0, {"val_loss": final}), metrics))


def test_a_stopped_trial_keeps_its_rungs_has_no_values_and_counts_as_trained(tmp_path):
    launcher = Launcher(tmp_path, settings(*PLAIN))
    counts = launcher.run(budget=40).counts
    rows = stopped(launcher)
    assert len(rows) == counts.stopped > 5
    assert (counts.trained, counts.failed, counts.infeasible, counts.skipped) == (40, 0, 0, 0)
    for row in rows:
        steps = [rung["step"] for rung in row.user_attrs["rungs"]]
        assert (row.state, row.values) == (TrialState.PRUNED, None)
        assert steps == [step for step in RUNGS if step <= steps[-1]] != list(RUNGS)
        assert row.user_attrs["verdict"] == {"step": steps[-1], "reason": "dominated", "violations": {}}
        assert {step for number, step in launcher.disk.trained if number == row.number} == set(steps)


def test_nothing_stopped_early_is_on_the_front_and_nothing_on_the_true_front_is_stopped(tmp_path):
    file = settings(*PLAIN)
    launcher = Launcher(tmp_path, file)
    launcher.run(budget=60)
    trials = tuple(to_result(row, file.constraint_list(), {}) for row in launcher.rows())
    record = StudyRecord("study", file.objective_list(), file.constraint_list(), trials, {}, {}, {}, 60, 0.0)
    assert not {t.number for t in pareto.front_of(record)} & {row.number for row in stopped(launcher)}
    whole = Launcher(tmp_path, settings(*PLAIN, "search.stopping=false"))
    whole.run(budget=60)
    goals = [o.goal for o in file.objective_list()]
    best = pareto.front([row.values for row in whole.rows()], goals)
    assert not set(best) & {row.number for row in stopped(launcher)}


def test_nothing_is_stopped_where_that_is_switched_off(tmp_path):
    launcher = Launcher(tmp_path, settings(*PLAIN, "search.stopping=false"))
    assert launcher.run(budget=40).counts.stopped == 0


def test_events_tell_of_the_rung_and_then_of_the_end(tmp_path):
    told = []
    launcher = Launcher(tmp_path, settings(*PLAIN))
    launcher.run(budget=40, observer=told.append)
    number = stopped(launcher)[0].number
    mine = [event for event in told if event["trial"] == number]
    assert [event["type"] for event in mine[-2:]] == ["rung", "finished"]
    assert (mine[-1]["state"], mine[-1]["reason"], mine[-1]["counts"]["stopped"]) == ("PRUNED", "dominated", 1)


def test_one_trial_in_ten_is_a_control_trained_to_its_end_and_its_row_says_what_the_rules_said(tmp_path, foreseen):
    launcher = Launcher(tmp_path, settings(*PLAIN))
    launcher.run(budget=60)
    rows = launcher.rows()
    controls = [row for row in rows if row.number % 10 == 9]
    assert not {row.number for row in [*stopped(launcher), *skipped(launcher)]} & {row.number for row in controls}
    assert all(len(row.user_attrs["rungs"]) == len(RUNGS) for row in controls)
    told = [row.user_attrs["control"] for row in controls]
    assert {each["skip"] for each in told} == {True, False}
    assert set(RUNGS) & {each["stop"] for each in told}
    assert not any("control" in row.user_attrs for row in rows if row.number % 10 != 9)


def test_the_row_of_a_baseline_says_whether_and_at_which_rung_it_would_have_ended(tmp_path, monkeypatch):
    launcher = Launcher(tmp_path, settings(*PLAIN))
    coordinator = launcher.coordinator(budget=20)
    for _ in range(7):
        trained_in_full(coordinator, coordinator.next_job(), final=1.5)
    monkeypatch.setattr(Proposer, "optimistic", lambda self, number, metrics: BOUND)
    number = coordinator.enqueue(
        Architecture(hidden=128, blocks=[{"attention": {"kind": "linear", "heads": 8}}]), baseline=True
    )
    job = coordinator.next_job()
    coordinator.report(job, Measured(dict.fromkeys(METRICS, 5.0)))
    assert launcher.rows()[number].user_attrs["control"] == {"skip": True}
    coordinator.report(job, Reached(Rung(RUNGS[0], 5.0, {"val_loss": 9.0})))
    assert launcher.rows()[number].user_attrs["control"] == {"skip": True, "stop": RUNGS[0]}
    again = launcher.coordinator(budget=20)
    resumed = again.next_job()
    again.report(resumed, Measured(METRICS))
    again.report(resumed, Reached(Rung(RUNGS[1], 10.0, {"val_loss": 9.0})))
    row = launcher.rows()[number]
    assert row.user_attrs["control"] == {"skip": True, "stop": RUNGS[0]}
    assert to_result(row, (), {}).control == Control(skip=True, stop=RUNGS[0])


def test_counts_are_the_same_after_a_resume(tmp_path, foreseen):
    launcher = Launcher(tmp_path, settings(*PLAIN))
    counts = launcher.run(budget=40).counts
    assert counts.stopped
    assert counts.skipped
    assert launcher.coordinator(budget=40).counts == counts


def test_a_baseline_is_neither_stopped_nor_skipped(tmp_path, monkeypatch):
    launcher = Launcher(tmp_path, settings(*PLAIN))
    coordinator = launcher.coordinator(budget=20)
    for _ in range(7):
        trained_in_full(coordinator, coordinator.next_job(), final=1.5)
    monkeypatch.setattr(Proposer, "optimistic", lambda self, number, metrics: BOUND)
    outside = Architecture(hidden=128, blocks=[{"attention": {"kind": "linear", "heads": 8}}])
    for baseline in (True, False):
        coordinator.enqueue(outside, baseline=baseline)
        job = coordinator.next_job()
        assert coordinator.report(job, Measured(dict.fromkeys(METRICS, 5.0))) is baseline
        if baseline:
            assert coordinator.report(job, Reached(Rung(RUNGS[0], 5.0, {"val_loss": 9.0})))
            coordinator.report(job, Interrupted())
            assert coordinator.report(coordinator.next_job(), Measured(METRICS))


def test_a_rung_that_was_passed_is_not_judged_by_what_was_learned_later(tmp_path):
    launcher = Launcher(tmp_path, settings(*PLAIN, "search.skip=false"))
    coordinator = launcher.coordinator(budget=20)
    early = coordinator.next_job()
    bad = Reached(Rung(RUNGS[0], 5.0, {"val_loss": 9.0}))
    worse = dict.fromkeys(METRICS, 5.0)
    coordinator.report(early, Measured(worse))
    assert coordinator.report(early, bad)
    for _ in range(9):
        trained_in_full(coordinator, coordinator.next_job(), final=1.5)
    late = coordinator.next_job()
    coordinator.report(late, Measured(worse))
    assert not coordinator.report(late, bad)

    again = launcher.coordinator(budget=20)
    resumed = again.next_job()
    assert resumed.number == early.number
    again.report(resumed, Measured(worse))
    assert again.report(resumed, bad)
    assert not again.report(resumed, Reached(Rung(RUNGS[1], 10.0, {"val_loss": 8.9})))


@pytest.mark.parametrize("resumed", [False, True])
def test_what_was_stopped_counts_among_those_at_the_rung(tmp_path, resumed):
    """Two dozen much worse ones put a trial among the best third, though it is beyond hope."""
    launcher = Launcher(tmp_path, settings(*PLAIN, "search.skip=false"))
    coordinator = launcher.coordinator(budget=99)
    for _ in range(9):
        trained_in_full(coordinator, coordinator.next_job(), final=1.5)

    def goes_on(cost: float) -> bool:
        job = coordinator.next_job()
        coordinator.report(job, Measured(dict.fromkeys(METRICS, cost)))
        return coordinator.report(job, Reached(Rung(RUNGS[0], 5.0, {"val_loss": 9.0})))

    assert goes_on(9.0)  # number 9 is never stopped
    assert [goes_on(9.0 + i) for i in range(1, 24)].count(True) == 2
    coordinator = launcher.coordinator(budget=99) if resumed else coordinator
    while resumed and (job := coordinator.next_job()).attempt > 1:
        coordinator.report(job, Failed("nan"))
    assert goes_on(2.0)


@pytest.mark.parametrize("resumed", [False, True])
def test_what_is_over_a_limit_after_all_dominates_nobody(tmp_path, resumed):
    limit = 'constraints=[{metric="val_accuracy",min=0.9}]'
    launcher = Launcher(tmp_path, settings("search.sampler=random", limit, "search.skip=false"))
    coordinator = launcher.coordinator(budget=99)
    for _ in range(10):
        trained_in_full(coordinator, coordinator.next_job(), final=1.5, accuracy=0.5)
    coordinator = launcher.coordinator(budget=99) if resumed else coordinator
    job = coordinator.next_job()
    coordinator.report(job, Measured(dict.fromkeys(METRICS, 5.0)))
    assert coordinator.report(job, Reached(Rung(RUNGS[0], 5.0, {"val_loss": 9.0})))


@pytest.mark.parametrize("rung_is_stored", [True, False])
def test_a_verdict_that_was_stored_holds_after_a_kill(tmp_path, rung_is_stored):
    """The driver died between the verdict and the end of the row."""
    launcher = Launcher(tmp_path, settings(*PLAIN))
    coordinator = launcher.coordinator(budget=2)
    job = coordinator.next_job()
    coordinator.report(job, Measured(METRICS))
    verdict = {"step": RUNGS[0], "reason": "infeasible:val_loss", "violations": {"val_loss": 0.5}}
    rung = {"step": RUNGS[0], "seconds": 5.0, "metrics": {"val_loss": 9.0}}
    stored = {"verdict": verdict} | ({"rungs": [rung]} if rung_is_stored else {})
    coordinator.leases.note(coordinator.running[job.number].lease, stored)
    again = launcher.coordinator(budget=2)
    resumed = again.next_job()
    assert again.report(resumed, Measured(METRICS))
    assert not again.report(resumed, Reached(Rung(**rung)))
    row = launcher.rows()[job.number]
    assert (row.state, row.user_attrs["reason"]) == (TrialState.PRUNED, "infeasible:val_loss")
    assert row.constraints["val_loss"] == 0.5


def test_a_limit_on_a_trained_metric_ends_trials_at_a_rung(tmp_path):
    limit = 'constraints=[{metric="val_loss",max=2.0}]'
    launcher = Launcher(tmp_path, settings("search.sampler=random", limit))
    launcher.run(budget=40)
    rows = [row for row in launcher.rows() if row.user_attrs.get("reason") == "infeasible:val_loss"]
    assert rows
    assert all(row.constraints["val_loss"] > 0 and row.user_attrs["rungs"] for row in rows)
    whole = Launcher(tmp_path, settings("search.sampler=random", limit, "search.stopping=false"))
    whole.run(budget=40)
    assert all(whole.rows()[row.number].constraints["val_loss"] > 0 for row in rows)


def test_a_skipped_trial_is_never_trained_and_costs_no_budget(tmp_path, foreseen):
    launcher = Launcher(tmp_path, settings(*PLAIN))
    counts = launcher.run(budget=40).counts
    rows = skipped(launcher)
    assert len(rows) == counts.skipped > 5
    assert counts.trained == 40
    for row in rows:
        assert (row.state, row.values) == (TrialState.PRUNED, None)
        assert row.number not in launcher.disk.rungs
        assert row.user_attrs["metrics"] == cheap(Architecture.model_validate(row.user_attrs["architecture"]))


def test_a_skipped_trial_was_dominated_even_at_its_bound_which_every_measured_row_holds(tmp_path, foreseen):
    launcher = Launcher(tmp_path, settings(*PLAIN))
    launcher.run(budget=40)
    rows = launcher.rows()
    for row in rows:
        earlier = [other.values for other in rows[: row.number] if other.state is TrialState.COMPLETE]
        beaten = any(
            all(a <= b for a, b in zip(values, row.user_attrs["bound"], strict=True))
            and values != row.user_attrs["bound"]
            for values in earlier
        )
        control = row.user_attrs.get("control", {}).get("skip", False)
        assert beaten == (row.user_attrs.get("reason") == "skipped" or control)
        assert not control or row.number % 10 == 9


@pytest.mark.parametrize("bound", [None, [float("inf"), 1.0, 1.0]])
def test_without_a_model_nothing_is_skipped(tmp_path, monkeypatch, bound):
    monkeypatch.setattr(Proposer, "optimistic", lambda self, number, metrics: bound)
    assert Launcher(tmp_path, settings(*PLAIN)).run(budget=20).counts.skipped == 0


def test_nothing_is_skipped_where_that_is_switched_off(tmp_path, foreseen):
    launcher = Launcher(tmp_path, settings(*PLAIN, "search.skip=false"))
    assert launcher.run(budget=20).counts.skipped == 0
    assert not any("bound" in row.user_attrs for row in launcher.rows())


def test_a_trial_that_passed_is_not_skipped_when_it_is_resumed_or_tried_again(tmp_path, monkeypatch):
    launcher = Launcher(tmp_path, settings(*PLAIN))
    coordinator = launcher.coordinator(budget=20)
    trained_in_full(coordinator, coordinator.next_job(), final=1.5)
    job = coordinator.next_job()
    assert coordinator.report(job, Measured(METRICS))
    monkeypatch.setattr(Proposer, "optimistic", lambda self, number, metrics: BOUND)
    again = launcher.coordinator(budget=20)
    assert again.report(again.next_job(), Measured(METRICS))
    again.enqueue_again(0, launcher.rows()[0].user_attrs)
    retried = again.next_job()
    assert again.report(retried, Measured(METRICS))
    assert launcher.rows()[retried.number].user_attrs["bound"] == BOUND
    assert not again.report(again.next_job(), Measured(METRICS))


def test_too_many_skipped_end_the_search_and_are_no_failures(tmp_path, monkeypatch):
    launcher = Launcher(tmp_path, settings(*PLAIN))
    coordinator = launcher.coordinator(budget=2)
    trained_in_full(coordinator, coordinator.next_job(), final=1.5)
    monkeypatch.setattr(Proposer, "optimistic", lambda self, number, metrics: BOUND)
    monkeypatch.setattr(early_endings, "is_control", lambda number: False)
    serial.run(coordinator, launcher.body, StopControl(tmp_path))
    assert coordinator.end is End.ASKS
    assert coordinator.counts.skipped == len(launcher.rows()) - 1 == 39
    assert coordinator.failures.ended == 1


@pytest.mark.parametrize("limit", [(), ('constraints=[{metric="val_loss",max=2.5}]',)], ids=["", "a trained limit"])
@pytest.mark.parametrize(
    ("most", "apart"), [(8, 24), pytest.param(150, 9, marks=pytest.mark.soak)], ids=["few", "many"]
)
def test_kills_change_nothing_of_what_is_stopped_or_skipped(tmp_path, foreseen, limit, most, apart):
    """A kill comes at most `apart` writes after the one before."""

    def outcome(launcher: Launcher) -> list[tuple[object, ...]]:
        attributes = ("architecture_id", "rungs", "reason", "verdict", "bound", "control")
        return [
            (r.state, r.values, r.constraints, *(r.user_attrs.get(name) for name in attributes))
            for r in launcher.rows()
        ]

    undisturbed = Launcher(tmp_path, settings(*PLAIN, *limit))
    counts = undisturbed.run(budget=24).counts
    assert counts.stopped
    assert skipped(undisturbed)
    generator, kills = random.Random(0), 0
    while kills < most:
        launcher = Launcher(tmp_path, settings(*PLAIN, *limit), database=MortalDatabase)
        over = False
        while not over:
            launcher.database.left, launcher.database.after = generator.randint(1, apart), generator.random() < 0.5
            try:
                coordinator = launcher.coordinator(budget=24)
                serial.run(coordinator, launcher.body, StopControl(tmp_path))
                over = True
            except Killed:
                kills += 1
        launcher.database.left = None
        assert outcome(launcher) == outcome(undisturbed)
        assert set(launcher.disk.trained.values()) == {1}
