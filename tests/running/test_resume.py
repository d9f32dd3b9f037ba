"""Whatever kills the driver, and whenever: nothing lost, nothing repeated, nothing left RUNNING, the same study."""

import random
from contextlib import suppress
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from nas.errors import OutOfReach
from nas.running import serial_executor as serial
from nas.running.stop_control import StopControl
from tests.running.mortal import Killed, MortalDatabase
from tests.running.tables import Launcher, settings

BUDGET = 24


def outcome(launcher: Launcher) -> list[tuple[Any, ...]]:
    """What must not depend on kills: numbers, architectures, states, values, rungs, reasons, what was foreseen."""
    attributes = ("architecture_id", "rungs", "reason", "verdict", "bound", "control")
    return [
        (r.number, r.state.name, r.values, r.constraints, *(r.user_attrs.get(name) for name in attributes))
        for r in launcher.rows()
    ]


def is_trained(row: FrozenTrial) -> bool:
    return row.state is TrialState.COMPLETE or (row.state is TrialState.PRUNED and "rungs" in row.user_attrs)


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_proposals")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, quick_proposals):
    launcher = Launcher(tmp_path_factory.mktemp("study"), settings("constraints.0.max=20"))
    counts = launcher.run(BUDGET).counts
    assert counts.stopped, "some trials end at a rung"
    return outcome(launcher)


@pytest.mark.parametrize(
    ("most", "apart"), [(10, 24), pytest.param(200, 9, marks=pytest.mark.soak)], ids=["few", "many"]
)
def test_a_study_killed_at_many_points_is_the_undisturbed_one(tmp_path, undisturbed, most, apart):
    """A kill comes at most `apart` writes after the one before."""
    generator, kills = random.Random(0), 0
    while kills < most:
        launcher = Launcher(tmp_path, settings("constraints.0.max=20"), database=MortalDatabase)
        over = False
        while not over:
            launcher.database.left, launcher.database.after = generator.randint(1, apart), generator.random() < 0.5
            coordinator = None
            try:
                coordinator = launcher.coordinator(BUDGET)
                serial.run(coordinator, launcher.body, StopControl(tmp_path))
                over = True
            except Killed:
                kills += 1
        launcher.database.left = None
        rows = launcher.rows()
        assert sum(map(is_trained, rows)) == BUDGET
        assert {row.state for row in rows} <= {TrialState.COMPLETE, TrialState.PRUNED}
        assert outcome(launcher) == undisturbed
        assert set(launcher.disk.trained.values()) == {1}


@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.soak)])
def test_a_database_that_refuses_at_any_write_ends_the_launch_and_loses_nothing(tmp_path, undisturbed, stride):
    writes, whole, few = 0, False, 5
    while not whole:
        launcher = Launcher(tmp_path, settings("constraints.0.max=20"))
        coordinator = launcher.coordinator(budget=3, writes=writes)
        with suppress(OutOfReach):
            serial.run(coordinator, launcher.body, StopControl(tmp_path))
            whole = True
        coordinator.close()
        assert not coordinator.running
        launcher.run(few)
        assert sum(map(is_trained, launcher.rows())) == few
        assert outcome(launcher) == undisturbed[: len(launcher.rows())]
        assert set(launcher.disk.trained.values()) == {1}
        writes += stride
    assert writes > 20


def test_what_was_measured_and_stored_is_not_measured_again(tmp_path):
    launcher = Launcher(tmp_path, settings("constraints.0.max=100"))
    coordinator = launcher.coordinator(budget=1)
    job = coordinator.next_job()
    body = launcher.body(job)
    coordinator.report(job, body.step())
    launcher.run(budget=1)
    assert launcher.disk.measured == {0: 1}


def test_two_interruptions_at_once_are_one_study(tmp_path, undisturbed):
    """Trials in trial when a parallel driver dies are claimed first, under their own numbers."""
    launcher = Launcher(tmp_path, settings("constraints.0.max=20"))
    coordinator = launcher.coordinator(BUDGET)
    flying = [coordinator.next_job() for _ in range(4)]
    again = launcher.coordinator(BUDGET)
    assert [again.next_job().number for _ in range(4)] == [job.number for job in flying]
    launcher.run(BUDGET)
    assert sum(map(is_trained, launcher.rows())) == BUDGET
