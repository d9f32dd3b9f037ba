"""What others disturb decides nothing for good, and every wait is told. All readings and clocks are simulated."""

from contextlib import contextmanager

import pytest

from nas.measure.exclusive import DeviceBusy, DeviceLock
from nas.measure.latency import MeasuringStopped
from nas.measurement import TimedMetrics
from nas.results import Rung
from nas.running import serial_executor as serial
from nas.running.coordinator import Coordinator
from nas.running.events import Completed, Interrupted, Measured, Waiting
from nas.running.front_measurement import DEVICE_SECONDS, MEMBER_SECONDS, measure_again
from nas.running.measuring import TRIES, WorkloadMeasurement
from nas.running.proposer import Proposer
from nas.running.stop_control import StopControl
from nas.running.trial import event_of
from nas.study.leases import join
from nas.study.store import Store, sqlite_url
from nas.study.stored_study import StoredStudy
from tests.running.tables import settings

pytestmark = pytest.mark.slow
LIMITED = (
    'objectives=[{metric="val_loss"},{metric="decode_ms_per_token"}]',
    'constraints=[{metric="decode_ms_per_token",max=0.5}]',
    "baselines=[]",
    'search.sampler="random"',
)


def reading(decode_ms: float, best_ms: float | None = None) -> dict[str, float]:
    """What measuring tells: with `best_ms`, as it is on a busy machine."""
    told = {"decode_ms_per_token": decode_ms, "prefill_ms": 1.0, "contended": 0.0}
    return told if best_ms is None else told | {"decode_ms_per_token_best": best_ms, "contended": 1.0}


class Scripted:
    """Trials whose readings are given by number; the later, the better the loss."""

    def __init__(self, readings):
        self.readings = readings

    def __call__(self, job):
        return ScriptedBody(job, self.readings[job.number])


class ScriptedBody:
    def __init__(self, job, metrics):
        loss = {"val_loss": 3.0 - job.number / 10}
        self.events = iter([Measured(metrics), Completed(Rung(200, 1.0, loss), loss)])

    def step(self):
        return next(self.events)


class Machine:
    """A clock, and a lock that others hold for so many tries."""

    def __init__(self, held: int = 0, seconds: float = 0.5):
        self.now, self.held, self.seconds = 1000.0, held, seconds

    def __call__(self) -> float:
        return self.now

    @contextmanager
    def measuring(self, patience=None):
        if self.held:
            self.held -= 1
            self.now += patience
            raise DeviceBusy
        yield 0.0
        self.now += self.seconds


def searched(folder, readings, *overrides, budget=None) -> tuple[StoredStudy, list]:
    file, events = settings(*LIMITED, *overrides), []
    store = Store.create(sqlite_url(folder), file.name, file.objective_list())
    store.set_attribute("settings", file.resolved())
    coordinator = Coordinator(join(store.database, file.name, budget or len(readings)), file, observer=events.append)
    serial.run(coordinator, Scripted(readings), StopControl(folder))
    coordinator.close()
    return StoredStudy(folder, store), events


def again(study, readings, machine=None, should_stop=lambda: False):
    """Measure once more: the events. `readings`: number → what each try tells."""
    events, machine = [], machine or Machine()

    def measurer(trial):
        script = iter(readings[trial.number])
        return WorkloadMeasurement(lambda: TimedMetrics(next(script)), machine, MEMBER_SECONDS, machine)

    def keep(number, metrics):
        study.store.set_attribute(f"remeasured:{number}", dict(metrics.metrics))

    measure_again(study, measurer, keep, events.append, should_stop, machine)
    return events


def test_a_limit_is_judged_by_the_fastest_readings_of_a_busy_machine(tmp_path):
    """The readings of a machine that others use: median 7.0 ms, the best .3; on an idle one .12."""
    study, _ = searched(tmp_path, [reading(7.0, 0.3), reading(0.12)])
    assert [(t.state, t.feasible) for t in study.trials()] == [("COMPLETE", True), ("COMPLETE", True)]
    study.store.close()


def test_what_is_over_a_limit_by_a_disturbed_measurement_is_trained_and_measured_again(tmp_path):
    study, events = searched(tmp_path, [reading(0.2), reading(7.0, 1.4)])
    told = {event["trial"]: event["uncertain"] for event in events if event["type"] == "measured"}
    assert told == {0: [], 1: ["decode_ms_per_token"]}
    assert [(t.state, t.feasible) for t in study.trials()] == [("COMPLETE", True), ("COMPLETE", False)]
    assert [t.number for t in study.front()] == [0]
    events = again(study, {0: [reading(0.2)], 1: [reading(0.12)]})
    assert [(e["trial"], e["kept"], e["left"]) for e in events if e["type"] == "remeasured"] == [
        (0, True, 1),
        (1, True, 0),
    ]
    assert [(t.number, t.feasible, t.contended) for t in study.front()] == [(1, True, False)]
    assert again(study, {}) == []
    study.store.close()


def test_an_undisturbed_measurement_over_a_limit_still_decides(tmp_path):
    study, _ = searched(tmp_path, [reading(7.0), reading(0.2)], budget=1)
    assert [(t.state, t.reason) for t in study.trials()] == [
        ("PRUNED", "infeasible:decode_ms_per_token"),
        ("COMPLETE", ""),
    ]
    study.store.close()


def test_a_trial_that_looks_dominated_by_a_disturbed_measurement_is_measured_again(tmp_path):
    """No limit: its loss is worse than the other's, and so seemed its time."""
    study, _ = searched(tmp_path, [reading(9.0, 0.1), reading(0.2)], "constraints=[]")
    assert [t.number for t in study.front()] == [1]
    again(study, {0: [reading(0.11)], 1: [reading(0.2)]})
    assert {t.number for t in study.front()} == {0, 1}
    study.store.close()


def test_a_machine_that_stays_busy_is_waited_for_so_long_and_the_better_measurement_kept(tmp_path):
    study, _ = searched(tmp_path, [reading(7.0, 1.4)])
    machine = Machine()
    events = again(study, {0: [reading(6.0, 1.6)] * TRIES}, machine)
    assert machine.now - 1000 <= MEMBER_SECONDS
    assert [e["kept"] for e in events if e["type"] == "remeasured"] == [False]
    assert [e["for"] for e in events if e["type"] == "waiting"] == ["front", "quiet", "quiet"]
    assert study.trials()[0].contended
    # The next launch tries again, as nothing undisturbed is known.
    assert [e["kept"] for e in again(study, {0: [reading(0.1)]}) if e["type"] == "remeasured"] == [True]
    study.store.close()


def test_a_disturbed_measurement_that_took_long_is_not_repeated(tmp_path):
    """Two of 1.1 seconds would take more than the two that a member has on a busy machine."""
    study, _ = searched(tmp_path, [reading(7.0, 1.4)])
    machine = Machine(seconds=1.1)
    events = again(study, {0: [reading(6.0, 1.2)]}, machine)
    assert [e["for"] for e in events if e["type"] == "waiting"] == ["front"]
    assert [e["kept"] for e in events if e["type"] == "remeasured"] == [True]
    study.store.close()


def test_a_device_that_is_not_to_be_had_is_told_and_given_up(tmp_path):
    study, _ = searched(tmp_path, [reading(0.2)])
    machine = Machine(held=1000)
    events = again(study, {0: []}, machine)
    assert machine.now - 1000 <= DEVICE_SECONDS + 2
    assert {(e["for"], e["since"]) for e in events if e["type"] == "waiting" and "trial" in e} == {("device", 1000.0)}
    assert [e for e in events if e["type"] == "remeasured"] == []
    study.store.close()


def test_a_request_to_stop_ends_the_second_measurement(tmp_path):
    study, _ = searched(tmp_path, [reading(0.2), reading(0.12)])
    asked = iter([False, False, True, True, True, True])
    events = again(study, {0: [reading(0.2)], 1: [reading(0.1)]}, should_stop=lambda: next(asked))
    assert len([e for e in events if e["type"] == "remeasured"]) <= 1
    study.store.close()


def test_a_signal_within_a_measurement_ends_it_and_nothing_is_kept(tmp_path):
    """It is heard between two rounds, as one measurement may take ten seconds, or wait half a minute."""
    study, _ = searched(tmp_path, [reading(0.2), reading(0.12)])
    asked, events = [], []

    def stopped():
        asked.append(True)
        raise MeasuringStopped

    def measurer(trial):
        return WorkloadMeasurement(stopped, Machine(), MEMBER_SECONDS)

    measure_again(study, measurer, lambda number, metrics: None, events.append, lambda: bool(asked))
    assert asked == [True]
    assert [e["type"] for e in events] == ["waiting"]
    study.store.close()


def test_a_trial_that_is_stopped_while_it_is_measured_is_interrupted():
    assert event_of(MeasuringStopped()) == Interrupted()


def test_a_measurement_goes_step_by_step_and_tells_what_it_waits_for():
    machine = Machine(held=2)
    script = iter([reading(7.0, 1.0), reading(0.1)])
    measurement = WorkloadMeasurement(lambda: TimedMetrics(next(script)), machine, clock=machine)
    device = Waiting("device", 1000.0)
    assert [measurement.step() for _ in range(4)] == [
        device,
        device,
        Waiting("quiet", 1000.0),
        TimedMetrics(reading(0.1)),
    ]


def test_sizes_are_counted_once_after_the_times_while_others_may_train(tmp_path):
    lock, other, told = DeviceLock("cpu", tmp_path), DeviceLock("cpu", tmp_path), []
    script = iter([reading(7.0, 1.0), reading(0.1)])

    def count() -> dict[str, float]:
        with other.training_step() as waited:
            told.append(waited)
        return {"params": 100.0}

    measurement = WorkloadMeasurement(lambda: TimedMetrics(next(script)), lock, count=count)
    assert isinstance(measurement.step(), Waiting)
    assert (measurement.step(), told) == (TimedMetrics({"params": 100.0, **reading(0.1)}), [0.0])


def test_a_wait_reaches_the_observer_with_its_trial(tmp_path):
    class Waits(ScriptedBody):
        def __init__(self, job):
            super().__init__(job, reading(0.1))
            self.events = iter([Waiting("device", 5.0), *self.events])

    file, events = settings(*LIMITED), []
    store = Store.create(sqlite_url(tmp_path), file.name, file.objective_list())
    coordinator = Coordinator(join(store.database, file.name, 1), file, observer=events.append)
    serial.run(coordinator, Waits, StopControl(tmp_path))
    coordinator.close()
    store.close()
    assert {"type": "waiting", "for": "device", "since": 5.0, "trial": 0} in events


def test_a_measurer_that_is_in_no_hurry_gives_the_device_up(tmp_path):
    impatient = DeviceLock("cpu", tmp_path)
    with DeviceLock("cpu", tmp_path).measuring(), pytest.raises(DeviceBusy), impatient.measuring(patience=0.0):
        pass
    with DeviceLock("cpu", tmp_path).measuring(patience=0.0) as waited:
        assert waited == 0


def test_a_resumed_search_goes_by_the_later_measurements(tmp_path, monkeypatch):
    study, _ = searched(tmp_path, [reading(0.3), reading(7.0, 1.4), reading(7.0, 1.6)])
    again(study, {0: [reading(0.2)], 1: [reading(0.12)], 2: [reading(0.9)]})
    shown = {trial.number: (trial.metrics["decode_ms_per_token"], dict(trial.violations)) for trial in study.trials()}
    seen = {}
    monkeypatch.setattr(Proposer, "absorb", lambda self, row: seen.update({row.number: row}))
    Coordinator(join(study.store.database, study.store.name, 8), study.file).close()
    assert {number: (row.values[1], row.constraints) for number, row in seen.items()} == shown
    assert [row.constraints["decode_ms_per_token"] <= 0 for row in seen.values()] == [True, True, False]
    # Optuna's own rows stay as they were first told.
    assert [row.values[1] for row in study.store.rows()] == [0.3, 7.0, 7.0]
    study.store.close()
