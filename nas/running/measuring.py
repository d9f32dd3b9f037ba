"""Measures an untrained architecture while no other process of `nas` uses the device, in steps of some seconds each.

A measurement that other load disturbs is repeated a few times. Between two steps the caller can report the wait, or
stop it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from nas.architecture import Architecture
from nas.measure import DeviceLock
from nas.measure.cheap import counts, times
from nas.measure.exclusive import DeviceBusy
from nas.measure.latency import never
from nas.measure.resident import give_back
from nas.measurement import TimedMetrics
from nas.running.events import Waiting
from nas.settings.study_file import StudyFile
from nas.tasks import Inputs, Task, model_of
from nas.training import optimiser
from nas.training.execution import chosen_execution
from nas.training.gradients import backward

TRIES = 3
"""The most measurements of an architecture while other load disturbs them."""
PATIENCE_SECONDS = 2.0
"""The seconds for which a step waits for the device."""


class LoneMeasurement:
    """Measures one architecture: `take` under the lock, alone, and once that is done, `count` beside others.

    A try that others disturb is followed by another one if, at the same length, that ends within `seconds` of the
    beginning.
    """

    def __init__(
        self,
        take: Callable[[], TimedMetrics],
        lock: DeviceLock,
        seconds: float = float("inf"),
        clock: Callable[[], float] = time.time,
        count: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        self._take, self._count, self._lock, self._seconds, self._clock = take, count, lock, seconds, clock
        self._started, self._tried, self._took = clock(), 0, 0.0

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
    ) -> "LoneMeasurement":
        """`counted` is what was counted of the architecture before; it is not counted again."""

        def count() -> Mapping[str, float]:
            return _count(architecture, task, file, device) if counted is None else counted

        return cls(lambda: _measure(architecture, task, file, device, should_stop), lock, seconds, count=count)

    def step(self) -> TimedMetrics | Waiting:
        """Returns the metrics once they are undisturbed, or the tries are used up; before that, the wait.

        Raises MeasuringStopped soon after `should_stop` of `of` says so.
        """
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

    def _counted(self, count: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        """Counts as if it were a step of training: others train meanwhile, and nobody measures."""
        with self._lock.training_step():
            return count()


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
