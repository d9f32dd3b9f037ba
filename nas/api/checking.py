"""Describes what a study file contains, how large its space is, and about how long a search takes."""

import random
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

from nas.architecture import Architecture
from nas.measure import DeviceLock
from nas.report.words import lost
from nas.running.placement import place, resolve_device
from nas.settings import study_file
from nas.settings.study_file import StudyFile
from nas.space.architecture_space import Space
from nas.space.parameter_settings import ParameterSettings
from nas.space.parameter_space import Design
from nas.tasks import Task, model_of, open_task
from nas.training.torch_state import borrowed_torch
from nas.training.trainer import Diverged, Trainer, TrainingInterrupted

DRAWN, SHOWN = 32, 5
"""The numbers of architectures that are drawn to learn about the space, and of those that are shown."""
TIMED_SECONDS = 1.2
"""The seconds for which each of two architectures is trained for the estimate."""


def check(file: StudyFile | Path | str) -> dict[str, Any]:
    """Checks a study file and describes it, as `nas check --json` does: see `describe`.

    Raises InvalidStudyFile with the line of the mistake, and DataError where the data does not match the file.
    """
    settings = file if isinstance(file, StudyFile) else study_file.load(file)
    return describe(settings, place(settings).slots)


def describe(file: StudyFile, slots: int) -> dict[str, Any]:
    """Returns {space_size, samples: [{architecture, architecture_id, params}], seconds, too_long}, as plain data.

    With a training of the user's own, `seconds` and `params` are None. In a space of parameters, samples have
    `parameters` in place of an architecture, and the size is None where one parameter is continuous.

    `seconds` estimates the training of all trials, `slots` of them side by side. The study's seed decides the samples.
    `too_long` tells which parts of the examples models do not see, because they are longer than the context or hold
    unknown symbols; it is empty where there are none.
    """
    if file.trial or isinstance(file.space, ParameterSettings):
        return _own(file)
    space, task = Space(file.spaces()), open_task(file.task)
    generator, threads = random.Random(file.search.seed), max(1, int(file.resources.cpus_per_trial))
    drawn = [space.sample(generator) for _ in range(DRAWN)]
    params = {architecture.id: parameters(architecture, task) for architecture in drawn}
    distinct = list({architecture.id: architecture for architecture in drawn}.values())
    samples = [{"architecture": a.canonical(), "architecture_id": a.id, "params": params[a.id]} for a in distinct]
    with borrowed_torch(threads):
        seconds = _seconds(file, task, sorted(drawn, key=lambda a: params[a.id]), params, slots)
    told = {"space_size": space.size(), "samples": samples[:SHOWN], "seconds": seconds}
    return told | {"too_long": lost(task.describe(), task.context)}


def _own(file: StudyFile) -> dict[str, Any]:
    """Describes a study with a training of the user's own: without weights and without an estimate, since its code is
    not run.
    """
    space, generator = file.search_space(), random.Random(file.search.seed)
    drawn = {design.id: design for design in (space.sample(generator) for _ in range(DRAWN))}
    samples = [_sample(design) | {"architecture_id": design.id, "params": None} for design in drawn.values()]
    return {"space_size": space.size(), "samples": samples[:SHOWN], "seconds": None, "too_long": ""}


def _sample(design: Design) -> dict[str, Any]:
    return {"architecture" if isinstance(design, Architecture) else "parameters": design.canonical()}


def parameters(architecture: Architecture, task: Task) -> int:
    """Counts the parameters exactly, without allocating them."""
    with torch.device("meta"):
        model = model_of(architecture, task)
    return sum(parameter.numel() for parameter in model.parameters())


def _seconds(file: StudyFile, task: Task, by_size: list[Architecture], params: dict[str, int], slots: int) -> float:
    """Estimates trials × steps × the mean time of a step.

    Two architectures are timed, the median and the largest; times between them lie on a line.
    """
    median, largest = by_size[len(by_size) // 2], by_size[-1]
    short, long = _step_seconds(file, task, median), _step_seconds(file, task, largest)
    run = params[largest.id] - params[median.id]
    slope = max(0.0, (long - short) / run) if run else 0.0
    mean = sum(params[architecture.id] for architecture in by_size) / len(by_size)
    step = max(short + slope * (mean - params[median.id]), 0.0)
    return step * file.train.steps * file.search.trials / slots


def _step_seconds(file: StudyFile, task: Task, architecture: Architecture) -> float:
    """Measures the median time of a real training step.

    The first step warms up, and is left out where there are others.
    """
    device = resolve_device(file, None)[0]
    # A plain step is timed: to compile may take longer than the whole check.
    update = {"rungs": (1.0,), "evaluation_tokens": 1, "time_limit": None, "compile": False}
    settings = file.train.model_copy(update=update)
    rate = (settings.learning_rate or (None,))[0]
    trainer = Trainer(architecture, task, settings, seed=0, device=device, learning_rate=rate, lock=DeviceLock(device))
    deadline, marks = time.perf_counter() + TIMED_SECONDS, list[float]()

    def late() -> bool:
        marks.append(trainer.seconds)
        return trainer.step > 1 and time.perf_counter() > deadline

    trainer.should_stop = late
    with suppress(TrainingInterrupted, Diverged):  # only the time is wanted
        trainer.run_to_next_rung()
    steps = [after - before for before, after in pairwise([*marks, trainer.seconds]) if after > before]
    return median(steps[1:] or steps)
