"""Describes what a study file contains, how large its space is, and about how long a search takes."""

import random
import time
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

from nas.architecture import Architecture
from nas.measure import DeviceLock
from nas.measure.memory import MIB
from nas.measure.resident import give_back
from nas.report.words import lost
from nas.running.placement import place, rank_devices, resolve_device
from nas.settings import study_file
from nas.settings.study_file import StudyFile
from nas.space.architecture_space import Space
from nas.space.largest import largest
from nas.space.parameter_settings import ParameterSettings
from nas.space.parameter_space import Design
from nas.tasks import Task, model_of, open_task
from nas.training.execution import chosen_execution
from nas.training.memory_forecast import training_mib
from nas.training.torch_state import borrowed_torch
from nas.training.trainer import Diverged, Trainer, TrainingInterrupted, never

DRAWN, SHOWN = 32, 5
"""The numbers of architectures that are drawn to learn about the space, and of those that are shown."""
TIMED_SECONDS = 1.2
"""The seconds for which each of two architectures is trained for the estimate."""
TIMED_MIB = 192.0
"""An architecture whose training takes about this memory, or more, is timed with fewer blocks and in parts."""
PART_TOKENS = 512
"""The tokens of a part of a batch, where an architecture is timed in parts."""


def check(file: StudyFile | Path | str) -> dict[str, Any]:
    """Checks a study file and describes it, as `nas check --json` does: see `describe`.

    Raises InvalidStudyFile with the line of the mistake, and DataError where the data does not match the file.
    """
    settings = file if isinstance(file, StudyFile) else study_file.load(file)
    return describe(settings, place(settings).slots)


def describe(file: StudyFile, slots: int) -> dict[str, Any]:
    """Returns {space_size, samples: [{architecture, architecture_id, params}], largest, seconds, too_long}, as plain
    data.

    With a training of the user's own, `largest`, `seconds` and `params` are None. In a space of parameters, samples
    have `parameters` in place of an architecture, and the size is None where one parameter is continuous.
    `largest` is the architecture, of the space and the baselines, whose training takes the most memory: a sample with
    `training_mib`, the least that each process of the training takes (nas.training.memory_forecast).

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
        most = _largest(file, task)  # last, since it imports a part of the compiler: 90 MiB that stay
    told = {"space_size": space.size(), "samples": samples[:SHOWN], "largest": most, "seconds": seconds}
    return told | {"too_long": lost(task.describe(), task.context)}


def _own(file: StudyFile) -> dict[str, Any]:
    """Describes a study with a training of the user's own: without weights and without an estimate, since its code is
    not run.
    """
    space, generator = file.search_space(), random.Random(file.search.seed)
    drawn = {design.id: design for design in (space.sample(generator) for _ in range(DRAWN))}
    samples = [_sample(design) | {"architecture_id": design.id, "params": None} for design in drawn.values()]
    told = {"space_size": space.size(), "samples": samples[:SHOWN]}
    return told | {"largest": None, "seconds": None, "too_long": ""}


def _sample(design: Design) -> dict[str, Any]:
    return {"architecture" if isinstance(design, Architecture) else "parameters": design.canonical()}


def parameters(architecture: Architecture, task: Task) -> int:
    """Counts the parameters exactly, without allocating them."""
    with torch.device("meta"):
        model = model_of(architecture, task)
    return sum(parameter.numel() for parameter in model.parameters())


def _largest(file: StudyFile, task: Task) -> dict[str, Any]:
    """Describes the largest architecture of the space and the baselines.

    The space's is chosen by models of one block a stack, as its blocks are alike: a forecast takes time for each block.
    """

    @cache
    def needed(architecture: Architecture) -> float:
        return _training_mib(file, task, architecture)

    given = [design for design in file.baseline_designs() if isinstance(design, Architecture)]
    widest = largest(file.spaces(), lambda architecture: needed(_shallow(architecture)))
    found = max((widest, *given), key=needed)
    sample = {"architecture": found.canonical(), "architecture_id": found.id, "params": parameters(found, task)}
    return sample | {"training_mib": needed(found)}


def _shallow(architecture: Architecture) -> Architecture:
    blocks = {"blocks": architecture.blocks[:1], "encoder_blocks": architecture.encoder_blocks[:1]}
    return architecture.model_copy(update=blocks)


def _training_mib(file: StudyFile, task: Task, architecture: Architecture) -> float:
    device = resolve_device(file, None)[0]
    execution, ranks = chosen_execution(file.train, device), len(rank_devices(file, device))
    return training_mib(architecture, task, file.train, execution, ranks)


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
    """Measures the time of a training step; of a large model, with one and two blocks a stack, and adds the others.

    The blocks that are left out are taken to need the time of the second one, by their parameters.
    """
    if _about_mib(file, task, architecture) < TIMED_MIB:
        return _timed_seconds(file, task, architecture)
    parts = min(file.train.micro_batch or file.train.batch, max(1, PART_TOKENS // task.context))
    file = file.model_copy(update={"train": file.train.model_copy(update={"micro_batch": parts})})
    one, two = _cut(architecture, 1), _cut(architecture, 2)
    short = _timed_seconds(file, task, one)
    if one == architecture:
        return short
    long, (first, second, whole) = (
        _timed_seconds(file, task, two),
        (parameters(each, task) for each in (one, two, architecture)),
    )
    return short + max(0.0, long - short) * (whole - first) / (second - first)


def _about_mib(file: StudyFile, task: Task, architecture: Architecture) -> float:
    """Guesses the memory of a training step: eight values a weight; one for each logit; twenty for each token, block
    and unit of the hidden size.
    """
    blocks = (len(architecture.blocks) + len(architecture.encoder_blocks)) * architecture.repeat
    tokens = (file.train.micro_batch or file.train.batch) * task.context
    values = tokens * (task.vocabulary + 20 * blocks * architecture.hidden)
    return 4 * (8 * parameters(architecture, task) + values) / MIB


def _cut(architecture: Architecture, blocks: int) -> Architecture:
    """Returns the architecture with the first blocks of each stack alone."""
    stacks = {"blocks": architecture.blocks[:blocks], "encoder_blocks": architecture.encoder_blocks[:blocks]}
    return architecture.model_copy(update=stacks)


def _timed_seconds(file: StudyFile, task: Task, architecture: Architecture) -> float:
    """Measures the median time of a real training step.

    The first step warms up, and is left out where there are others.
    """
    device = resolve_device(file, None)[0]
    # A plain step is timed: to compile may take longer than the whole check.
    update = {"rungs": (1.0,), "evaluation_tokens": 1, "time_limit": None, "compile": False}
    settings = file.train.model_copy(update=update)
    rate = (settings.learning_rate or (None,))[0]
    trainer = Trainer(architecture, task, settings, seed=0, device=device, learning_rate=rate, lock=DeviceLock(device))
    steps = _steps_of(trainer)
    del trainer
    give_back()
    return median(steps[1:] or steps)


def _steps_of(trainer: Trainer) -> list[float]:
    """Trains for TIMED_SECONDS, at least two steps. Returns the seconds of each."""
    deadline, marks = time.perf_counter() + TIMED_SECONDS, list[float]()

    def late() -> bool:
        marks.append(trainer.seconds)
        return trainer.step > 1 and time.perf_counter() > deadline

    trainer.should_stop = late
    try:
        with suppress(TrainingInterrupted, Diverged):  # only the time is wanted
            trainer.run_to_next_rung()
    finally:
        trainer.should_stop = never  # else the trainer would refer to itself, and keep its memory
    return [after - before for before, after in pairwise([*marks, trainer.seconds]) if after > before]
