"""`nas check`: what a study file describes, how large that is, and about how long it takes."""

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import Overrides, Preset

if TYPE_CHECKING:
    from rich.console import Console

    from nas.architecture import Architecture
    from nas.settings.study_file import StudyFile
    from nas.tasks import Task

DRAWN, SHOWN = 32, 5
"""Architectures drawn to know the space by, and those of them that are shown."""
TIMED_SECONDS = 1.2
"""How long each of two architectures is trained for the estimate."""


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A study file (TOML).")],
    preset: Preset = None,
    overrides: Overrides = None,
) -> None:
    """Check a study file.

    Prints the size of its space, five architectures drawn from it, and an estimate of the time that training takes.

    Exit codes: 0; 2 when something in the file is wrong, with its line.
    """
    from nas.cli.tables import answers
    from nas.running.placement import place
    from nas.settings import study_file

    settings = study_file.load(file, overrides or [], preset)
    print_description(settings, describe(settings, place(settings).slots), answers())


def describe(file: "StudyFile", slots: int) -> dict[str, Any]:
    """{space_size, samples: [{architecture, architecture_id, params}], seconds, lost}, as plain data.

    `seconds` estimates the training of all trials, `slots` side by side. The samples follow from the study's seed.
    `lost`: what of the examples models do not see, or cannot tell, or nothing.
    """
    from nas.report.words import lost
    from nas.space.architecture_space import Space
    from nas.tasks import open_task

    space, task = Space(file.spaces()), open_task(file.task)
    generator = random.Random(file.search.seed)
    drawn = [space.sample(generator) for _ in range(DRAWN)]
    params = {architecture.id: parameters(architecture, task) for architecture in drawn}
    distinct = list({architecture.id: architecture for architecture in drawn}.values())
    samples = [{"architecture": a.canonical(), "architecture_id": a.id, "params": params[a.id]} for a in distinct]
    return {
        "space_size": space.size(),
        "samples": samples[:SHOWN],
        "seconds": _seconds(file, task, sorted(drawn, key=lambda a: params[a.id]), params, slots),
        "lost": lost(task.describe(), task.context),
    }


def parameters(architecture: "Architecture", task: "Task") -> int:
    """Exactly, without allocating them."""
    import torch

    from nas.tasks import model_of

    with torch.device("meta"):
        model = model_of(architecture, task)
    return sum(parameter.numel() for parameter in model.parameters())


def print_description(file: "StudyFile", described: dict[str, Any], console: "Console") -> None:
    """The same for people."""
    from nas.architecture import Architecture
    from nas.cli.tables import pairs, span, table

    steps = f"{file.search.trials} trials of {file.train.steps} steps"
    facts = {
        "study": file.name,
        "task": f"{file.task.kind}, {file.task.data}, context {file.task.context}",
        "space": f"{described['space_size']:,} architectures",
        "objectives": ", ".join(f"{o.goal} {o.metric}" for o in file.objective_list()),
        "constraints": ", ".join(map(str, file.constraint_list())) or "none",
        "time": f"about {span(described['seconds'])} (an estimate) to train {steps}; measuring comes on top",
    }
    console.print(pairs(facts))
    if described["lost"]:
        console.print(described["lost"])
    shown = table("parameters", "some of its architectures", numbers=("parameters",))
    for sample in described["samples"]:
        shown.add_row(f"{sample['params']:,}", str(Architecture.model_validate(sample["architecture"])))
    console.print("", shown, sep="\n")


def _seconds(
    file: "StudyFile", task: "Task", by_size: "list[Architecture]", params: dict[str, int], slots: int
) -> float:
    """Trials × steps × the mean time of a step, which is taken to be a line through the median and the largest."""
    import torch

    torch.set_num_threads(max(1, int(file.resources.cpus_per_trial)))
    median, largest = by_size[len(by_size) // 2], by_size[-1]
    short, long = _step_seconds(file, task, median), _step_seconds(file, task, largest)
    run = params[largest.id] - params[median.id]
    slope = max(0.0, (long - short) / run) if run else 0.0
    mean = sum(params[architecture.id] for architecture in by_size) / len(by_size)
    step = max(short + slope * (mean - params[median.id]), 0.0)
    return step * file.train.steps * file.search.trials / slots


def _step_seconds(file: "StudyFile", task: "Task", architecture: "Architecture") -> float:
    """The median time of a real training step. The first step, which warms up, is left out where there are others."""
    from contextlib import suppress
    from itertools import pairwise
    from statistics import median

    from nas.measure import DeviceLock
    from nas.running.placement import resolve_device
    from nas.training.trainer import Diverged, Trainer, TrainingInterrupted

    device = resolve_device(file, None)[0]
    settings = file.train.model_copy(update={"rungs": (1.0,), "evaluation_tokens": 1, "time_limit": None})
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
