"""Measures an untrained architecture as a target of the study file would run it."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from nas.architecture import Architecture
from nas.measure.cheap import counts, prepare, times
from nas.measure.compiled import compiled
from nas.measurement import MAIN, TimedMetrics
from nas.settings.study_file import StudyFile
from nas.settings.study_settings import MeasureSettings
from nas.settings.target_settings import TargetSettings, at_target
from nas.tasks import Task, model_of

EAGER, COMPILED = "eager", "compile"


def device_of(target: TargetSettings, device: str) -> str:
    """Returns the device on which a target is measured, in a trial that runs on `device`."""
    return device if target.device in ("auto", device.partition(":")[0]) else target.device


class TargetModel:
    """Holds the model of an architecture as a target runs it, for one measurement."""

    def __init__(
        self, architecture: Architecture, task: Task, file: StudyFile, target: TargetSettings, device: str
    ) -> None:
        self._task, self._target, self._device = task, target, device
        self._settings = target.measure(file.measure)
        self._architecture = architecture
        # What is typical of the task is so at its own context alone.
        own = target.context in (None, task.context)
        self._context, self._typical = target.context or task.context, task.typical if own else None
        self._compiled: nn.Module | None = None

    def compile(self) -> None:
        """Compiles the model, which may take a minute, by generating with it. It stays compiled for further tries."""
        model = compiled(self._build())
        prepare(model, *self._arguments)
        self._compiled = model

    def times(self, should_stop: Callable[[], bool]) -> TimedMetrics:
        """Returns what has to be timed, by names METRIC@TARGET, and `contended`."""
        model = self._build() if self._compiled is None else self._compiled
        found = times(model, *self._arguments, should_stop, self._target.runtime)
        metrics = {**at_target(found.metrics, self._target.name), "contended": found.metrics["contended"]}
        return TimedMetrics(metrics, {self._target.name: found.measurement[MAIN]})

    def counts(self) -> Mapping[str, float]:
        """Returns memory and sizes, by names METRIC@TARGET; where the model is compiled, those of it as written."""
        vocabulary, context, settings, device, typical = self._arguments
        return at_target(counts(self._build(), vocabulary, context, settings, device, None, typical), self._target.name)

    def _build(self) -> nn.Module:
        model = model_of(self._architecture, self._task, self._target.context)
        return model.to(device=self._device, dtype=getattr(torch, self._target.dtype))

    @property
    def _arguments(self) -> tuple[int, int, MeasureSettings, str, tuple[int, int] | None]:
        return self._task.vocabulary, self._context, self._settings, self._device, self._typical
