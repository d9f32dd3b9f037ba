"""Compares ways to spend two CPUs on training: two trials at once, or both CPUs for one trial."""

import itertools
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from nas.architecture import Architecture
from nas.bench.pool import side_by_side
from nas.bench.training import exact_at
from nas.bench.training_restated import Shape
from nas.measure import environment
from nas.settings.study_settings import TrainSettings
from nas.settings.task_settings import TextTask
from nas.tasks import open_task
from nas.training.data_parallel import DataParallel
from nas.training.trainer import Diverged, Trainer, TrainingInterrupted

WARM = 3
"""The first steps, which are not timed."""


@dataclass(frozen=True)
class Way:
    """Describes a way to train: `trials` side by side, each in so many processes of so many threads."""

    trials: int = 1
    processes: int = 1
    threads: int = 1


WAYS = {
    "one_cpu": Way(),
    "two_trials": Way(trials=2),
    "two_threads": Way(threads=2),
    "two_processes": Way(processes=2),
}


@dataclass(frozen=True)
class Settings:
    """Holds the settings of a run: the widths, and the seconds for which each way trains at each width."""

    seconds: float = 10.0
    widths: tuple[int, ...] = (64, 128, 256)
    corpus: str = "tinyshakespeare"
    shape: Shape = field(default_factory=Shape)


@dataclass(frozen=True)
class Share:
    """Holds what one process of a way has to know; `number` tells its trial from the other one."""

    number: int
    way: Way
    architecture: Architecture
    task: TextTask
    batch: int
    seconds: float


def compare(settings: Settings, say: Callable[[str], object]) -> dict[str, Any]:
    """Returns {environment, settings, rows}: for each width, the steps a second of all trials of each way together."""
    rows = []
    for width in settings.widths:
        row: dict[str, Any] = {"hidden": width}
        for name, way in WAYS.items():
            row[name] = _rate(settings, width, way)
            say(f"hidden {width}, {name}: {row[name]:.1f} steps/s")
        rows.append(row)
    return {"environment": environment(), "settings": asdict(settings), "rows": rows}


def _rate(settings: Settings, width: int, way: Way) -> float:
    """Returns the steps a second of all trials, over the time in which all of them trained."""
    task = TextTask(corpus=settings.corpus, context=settings.shape.context, split="90/10")
    architecture, batch = exact_at(settings.shape, width), settings.shape.batch
    shares = [Share(i, way, architecture, task, batch, settings.seconds) for i in range(way.trials)]
    marks = [found for _, found in side_by_side(step_marks, shares, way.trials)]
    start, end = max(found[0] for found in marks), min(found[-1] for found in marks)
    return sum(rate_between(found, start, end) for found in marks)


def rate_between(marks: list[float], start: float, end: float) -> float:
    """Returns the steps a second of one trial between two moments, by the whole steps that lie within."""
    within = [mark for mark in marks if start <= mark <= end]
    return (len(within) - 1) / (within[-1] - within[0]) if len(within) > 1 else 0.0


def step_marks(share: Share) -> list[float]:
    """Trains for so many seconds. Returns the moments between steps, in Unix seconds, the first steps left out."""
    torch.set_num_threads(share.way.threads)
    marks, questions = list[float](), itertools.count()

    def late() -> bool:
        if next(questions) > WARM:
            marks.append(time.time())
        return len(marks) > 1 and marks[-1] - marks[0] > share.seconds

    with ExitStack() as ending:
        team = None
        if share.way.processes > 1:
            devices = ("cpu",) * share.way.processes
            team = ending.enter_context(closing(DataParallel(share.task, devices, share.way.threads)))
        trainer = Trainer(
            share.architecture,
            open_task(share.task),
            TrainSettings(steps=100_000, batch=share.batch, rungs=(1.0,)),
            seed=share.number,
            should_stop=late,
            parallel=team,
        )
        with suppress(TrainingInterrupted, Diverged):  # only the time is wanted
            trainer.run_to_next_rung()
    return marks
