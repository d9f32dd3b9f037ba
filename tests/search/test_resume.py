"""Whatever kills the driver, and whenever: nothing lost, nothing repeated, nothing left RUNNING, the same study."""

import random
from contextlib import suppress
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from nas.errors import OutOfReach
from nas.search import serial
from nas.search.control import Control
from tests.search.tables import RUNGS, Launcher, settings

WRITES = ("create_new_trial", "set_trial_state_values", "set_trial_user_attr", "set_trial_system_attr")
BUDGET = 24


class Killed(BaseException):
    """Stands for SIGKILL: no handler of ours catches it."""


class MortalStorage(optuna.storages.InMemoryStorage):
    """Dies at the n-th write from now, before or after the write is done."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.after = None, False

    def _live(self, name: str, *arguments: Any, **options: Any) -> Any:
        write = getattr(super(), name)
        if self.left is None:
            return write(*arguments, **options)
        self.left -= 1
        if self.left:
            return write(*arguments, **options)
        self.left = None
        if self.after:
            write(*arguments, **options)
        raise Killed


for _name in WRITES:
    setattr(MortalStorage, _name, lambda self, *a, _name=_name, **o: self._live(_name, *a, **o))


def outcome(launcher: Launcher) -> list[tuple[Any, ...]]:
    """What must not depend on kills: numbers, architectures, states, values, rungs."""
    return [
        (r.number, r.user_attrs["architecture_id"], r.state.name, r.values, r.user_attrs.get("rungs"), r.constraints)
        for r in launcher.rows()
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    launcher = Launcher(tmp_path_factory.mktemp("study"), settings("constraints.0.max=20"))
    launcher.run(BUDGET)
    return outcome(launcher)


def test_a_study_killed_at_two_hundred_points_is_the_undisturbed_one(tmp_path, undisturbed):
    generator, kills = random.Random(0), 0
    while kills < 200:
        launcher = Launcher(tmp_path, settings("constraints.0.max=20"), MortalStorage())
        over = False
        while not over:
            launcher.storage.left, launcher.storage.after = generator.randint(1, 9), generator.random() < 0.5
            coordinator = None
            try:
                coordinator = launcher.coordinator(BUDGET)
                serial.run(coordinator, launcher.body, Control(tmp_path))
                over = True
            except Killed:
                kills += 1
        launcher.storage.left = None
        rows = launcher.rows()
        assert sum(row.state is TrialState.COMPLETE for row in rows) == BUDGET
        assert {row.state for row in rows} <= {TrialState.COMPLETE, TrialState.PRUNED}
        assert outcome(launcher) == undisturbed
        assert all(launcher.disk.trained[row.number, step] == 1 for row in rows if row.values for step in RUNGS)


def test_a_database_that_refuses_at_any_write_ends_the_launch_and_loses_nothing(tmp_path, undisturbed):
    writes, whole = 0, False
    while not whole:
        launcher = Launcher(tmp_path, settings("constraints.0.max=20"))
        coordinator = launcher.coordinator(budget=3, writes=writes)
        with suppress(OutOfReach):
            serial.run(coordinator, launcher.body, Control(tmp_path))
            whole = True
        coordinator.close()
        assert not coordinator.flying
        launcher.run(BUDGET)
        assert outcome(launcher) == undisturbed
        assert set(launcher.disk.trained.values()) == {1}
        writes += 1
    assert writes > 20


def test_what_was_measured_and_stored_is_not_measured_again(tmp_path):
    launcher = Launcher(tmp_path, settings())
    coordinator = launcher.coordinator(budget=1)
    job = coordinator.next_job()
    body = launcher.body(job)
    coordinator.report(job, body.step())
    launcher.run(budget=1)
    assert launcher.disk.measured == {0: 1}


def test_two_interruptions_at_once_are_one_study(tmp_path, undisturbed):
    """Trials in flight when a parallel driver dies are claimed first, under their own numbers."""
    launcher = Launcher(tmp_path, settings("constraints.0.max=20"))
    coordinator = launcher.coordinator(BUDGET)
    flying = [coordinator.next_job() for _ in range(4)]
    again = launcher.coordinator(BUDGET)
    assert [again.next_job().number for _ in range(4)] == [job.number for job in flying]
    launcher.run(BUDGET)
    assert sum(row.state is TrialState.COMPLETE for row in launcher.rows()) == BUDGET
