"""Measures an untrained architecture while no other process of `nas` uses the device, in steps of some seconds each.

A measurement that other load disturbs is repeated a few times. Between two steps the caller can report the wait, or
stop it. An architecture has one measurement for `[measure]`, and one for each target.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from nas.architecture import Architecture
from nas.measure import DeviceLock
from nas.measure.cheap import counts, times
from nas.measure.exclusive import DeviceBusy
from nas.measure.latency import never
from nas.measure.resident import give_back
from nas.measurement import TimedMetrics
from nas.running.events import Waiting
from nas.running.target_measuring import COMPILED, EAGER, TargetModel, device_of
from nas.settings.study_file import StudyFile
from nas.tasks import Inputs, Task, model_of
from nas.training import optimiser
from nas.training.execution import chosen_execution
from nas.training.gradients import backward

TRIES = 3
"""The most measurements of an architecture while other load disturbs them."""
PATIENCE_SECONDS = 2.0
"""The seconds for which a step waits for the device."""

Take = Callable[[], TimedMetrics]
Count = Callable[[], Mapping[str, float]]


class WorkloadMeasurement:
    """Measures one workload: `take` under the lock, alone, after `prepare` and before `count`, beside which others run.

    A try that others disturb is followed by another one if, at the same length, that ends within `seconds` of
    measuring.
    """

    def __init__(
        self,
        take: Take,
        lock: DeviceLock,
        seconds: float = float("inf"),
        clock: Callable[[], float] = time.time,
        count: Count | None = None,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        self._take, self._count, self._lock, self._seconds, self._clock = take, count, lock, seconds, clock
        self._started, self._tried, self._took, self._prepare = clock(), 0, 0.0, prepare

    def step(self) -> TimedMetrics | Waiting:
        """Returns the metrics once they are undisturbed, or the tries are used up; before that, the wait.

        Raises MeasuringStopped soon after the search is told to stop.
        """
        if self._prepare:
            with self._lock.training_step():
                self._prepare()
            self._prepare = None
        try:
            with self._lock.measuring(PATIENCE_SECONDS):
                began = self._clock()
                found = self._take()
        except DeviceBusy:
            return Waiting("device", self._started)
        give_back()
        ended = self._clock()
        self._tried, self._took = self._tried + 1, self._took + ended - began
        late = self._took + (ended - began) > self._seconds
        if not found.metrics["contended"] or self._tried == TRIES or late:
            counted = {} if self._count is None else self._counted(self._count)
            return replace(found, metrics={**counted, **found.metrics})
        return Waiting("quiet", self._started)

    def _counted(self, count: Count) -> Mapping[str, float]:
        """Counts as if it were a step of training: others train meanwhile, and nobody measures."""
        with self._lock.training_step():
            return count()


class LoneMeasurement:
    """Measures an architecture: takes the measurements of its workloads one after another, and joins what they tell."""

    def __init__(self, parts: Sequence[Callable[[], WorkloadMeasurement]]) -> None:
        self._left = list(parts)
        self._present: WorkloadMeasurement | None = None
        self._found: TimedMetrics | None = None

    @classmethod
    def of(
        cls,
        architecture: Architecture,
        task: Task,
        file: StudyFile,
        device: str,
        lock: DeviceLock,
        seconds: float = float("inf"),
        should_stop: Callable[[], bool] = never,
        counted: Mapping[str, float] | None = None,
        runtimes: Sequence[str] = (EAGER, COMPILED),
    ) -> "LoneMeasurement":
        """Takes the workload of `[measure]`, which is eager, and the targets of these runtimes, each for `seconds`.

        `counted` is what was counted of the architecture before; nothing is counted then.
        """
        parts: list[Callable[[], WorkloadMeasurement]] = []
        if EAGER in runtimes:
            take = partial(_measure, architecture, task, file, device, should_stop)
            count = partial(_count, architecture, task, file, device) if counted is None else lambda: counted
            parts.append(partial(WorkloadMeasurement, take, lock, seconds, count=count))
        for target in (target for target in file.targets if target.runtime in runtimes):
            place = device_of(target, device)
            own_lock = lock if place == device else DeviceLock(place, on_wait=lock.on_wait)
            on = TargetModel(architecture, task, file, target, place)
            parts.append(
                partial(
                    WorkloadMeasurement,
                    partial(on.times, should_stop),
                    own_lock,
                    seconds,
                    count=on.counts if counted is None else None,
                    prepare=on.compile if target.runtime == COMPILED else None,
                )
            )
        return cls(parts)

    def step(self) -> TimedMetrics | Waiting:
        """Returns the metrics of all once the last is taken; before that, the wait.

        Raises MeasuringStopped soon after `should_stop` of `of` says so.
        """
        while self._left:
            self._present = self._present or self._left[0]()
            found = self._present.step()
            if isinstance(found, Waiting):
                return found
            self._found, self._present = joined(self._found, found) if self._found else found, None
            del self._left[0]
        return self._found or TimedMetrics({"contended": 0.0})


def joined(first: TimedMetrics, second: TimedMetrics) -> TimedMetrics:
    """Returns what two measurements of one architecture tell together."""
    contended = max(first.metrics.get("contended", 0.0), second.metrics.get("contended", 0.0))
    metrics = {**first.metrics, **second.metrics, "contended": contended}
    return TimedMetrics(metrics, {**first.measurement, **second.measurement})


def measure_alone(
    architecture: Architecture, task: Task, file: StudyFile, device: str, lock: DeviceLock
) -> dict[str, float]:
    """Returns the cheap metrics of an untrained architecture. `contended` says that other load disturbed each try."""
    return dict(measured_alone(LoneMeasurement.of(architecture, task, file, device, lock)).metrics)


def measured_alone(measurement: LoneMeasurement) -> TimedMetrics:
    """Takes the steps of a measurement to its end."""
    while isinstance(found := measurement.step(), Waiting):
        pass
    return found


def _measure(
    architecture: Architecture, task: Task, file: StudyFile, device: str, should_stop: Callable[[], bool]
) -> TimedMetrics:
    model = model_of(architecture, task).to(device)
    return times(model, task.vocabulary, task.context, file.measure, device, task.typical, should_stop)


def _count(architecture: Architecture, task: Task, file: StudyFile, device: str) -> dict[str, float]:
    model = model_of(architecture, task).to(device)
    step = _training_step(model, task, file, device)
    counted = counts(model, task.vocabulary, task.context, file.measure, device, step, task.typical)
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    return counted


def _training_step(model: torch.nn.Module, task: Task, file: StudyFile, device: str) -> Callable[[], None]:
    steps, execution = optimiser.build(model, file.train, None), chosen_execution(file.train, device)

    def loss(inputs: Inputs, targets: torch.Tensor) -> torch.Tensor:
        with execution.around_loss(device):
            return task.loss(model, inputs, targets)

    def step() -> None:
        batch = task.largest(file.train.batch, "cpu")
        steps.zero_grad()
        backward(loss, batch, device, file.train.micro_batch)
        steps.step()

    return step
