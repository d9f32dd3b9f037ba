"""Compares versions of the training recipe: the quality of one architecture after equal seconds of training.

A study file gives the task, the settings and, as its first baseline, the architecture. The oldest recipe trains for the
file's steps. Every other one gets as many steps as take the same time at its own pace, which is measured beforehand.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from nas import files
from nas.architecture import Architecture
from nas.bench import result_folder
from nas.bench.interleaved import Call, interleaved
from nas.bench.training import OurTraining, Stopwatch
from nas.errors import UsageError
from nas.measure import DeviceLock, environment
from nas.settings import recipe_versions, study_file
from nas.settings.study_file import StudyFile
from nas.tasks import Task, open_task
from nas.training.torch_state import borrowed_torch
from nas.training.trainer import Trainer

SLICES = 10
"""The trainings of a seed take turns after each tenth of their steps."""
READINGS = 20
FILE = "recipes.json"


@dataclass(frozen=True)
class Settings:
    """Holds the settings of a run. Without `steps`, each file's own count."""

    files: tuple[Path, ...]
    recipes: tuple[int, ...] = tuple(sorted(recipe_versions.VERSIONS))
    seeds: int = 3
    steps: int | None = None

    def plain(self) -> dict[str, Any]:
        return {**vars(self), "files": [str(path) for path in self.files]}


def parse_recipes(text: str) -> tuple[int, ...]:
    """Parses "1,2" into versions, the oldest first. Raises UsageError."""
    try:
        versions = tuple(sorted({int(word) for word in text.split(",")}))
    except ValueError:
        versions = ()
    if not versions or not set(versions) <= recipe_versions.VERSIONS.keys():
        known = ", ".join(map(str, recipe_versions.VERSIONS))
        raise UsageError(f"cannot read the recipes '{text}'", where="--recipes", help=f"some of {known}")
    return versions


def claim(folder: Path) -> None:
    """Claims the folder before minutes of training.

    Raises Conflict where other programs' files have our names, and OutOfReach when the disk cannot be written.
    """
    result_folder.claim(folder, {FILE: ("environment", "settings", "rows")}, (FILE,))


def compare(settings: Settings, say: Callable[[str], object]) -> dict[str, Any]:
    """Returns {environment, settings, studies, rows}: a row a training, and for each study the means of each recipe.

    Raises UsageError for a study without a baseline whose architecture could be trained.
    """
    rows: list[dict[str, Any]] = []
    loaded = [study_file.load(path) for path in settings.files]
    designs = [_design(file) for file in loaded]
    with borrowed_torch(1):
        for file, design in zip(loaded, designs, strict=True):
            task = open_task(file.task)
            trainer = partial(_trainer, file, design, task)
            steps = _equal_steps(settings, trainer, settings.steps or file.train.steps)
            say(f"{file.name}: " + ", ".join(f"recipe {recipe}: {count} steps" for recipe, count in steps.items()))
            for seed in range(settings.seeds):
                found = _race(file.name, seed, trainer, steps)
                say("  ".join(f"recipe {row['recipe']}: {row['metrics']['val_loss']:.4f}" for row in found))
                rows += found
    result = {"settings": settings.plain(), "studies": means(rows), "rows": rows}
    return {"environment": environment() | {"threads": 1}, **result}


def write(result: Mapping[str, Any], folder: Path) -> None:
    files.write_json(folder / FILE, result)


def means(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Returns study → recipe → the means of its seconds and metrics over the seeds."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for study, recipe in dict.fromkeys((row["study"], row["recipe"]) for row in rows):
        own = [row for row in rows if (row["study"], row["recipe"]) == (study, recipe)]
        told = {name: fmean(row["metrics"][name] for row in own) for name in own[0]["metrics"]}
        found.setdefault(study, {})[str(recipe)] = {"seconds": fmean(row["seconds"] for row in own), **told}
    return found


Making = Callable[[int, int, int], OurTraining]
"""Makes a training from its recipe, steps and seed."""


def _design(file: StudyFile) -> Architecture:
    designs = [design for design in file.baseline_designs() if isinstance(design, Architecture)]
    if not designs or file.trial:
        text = f"study '{file.name}' has no baseline that the built-in training could train"
        raise UsageError(text, where="FILE", help="give it one: [[baselines]]")
    return designs[0]


def _trainer(file: StudyFile, design: Architecture, task: Task, recipe: int, steps: int, seed: int) -> OurTraining:
    rates = file.train.learning_rate or (None,)
    rungs = tuple((i + 1) / SLICES for i in range(SLICES))
    changes = {"recipe": recipe, "steps": steps, "rungs": rungs, "time_limit": None}
    settings, watch = file.train.model_copy(update=changes), Stopwatch()
    trainer = Trainer(
        design, task, settings, seed=seed, learning_rate=rates[-1], lock=watch, should_stop=watch.before_step
    )
    return OurTraining(trainer, watch)


def _equal_steps(settings: Settings, make: Making, steps: int) -> dict[int, int]:
    """Returns for each recipe the steps that take as long as `steps` of the first one."""
    trainings = {recipe: make(recipe, steps, 0) for recipe in settings.recipes}
    calls = {recipe: Call(partial(_take, one)) for recipe, one in trainings.items()}
    timed = interleaved(calls, READINGS, DeviceLock("cpu"))
    first = timed[settings.recipes[0]].ms.median
    return {recipe: max(1, round(steps * first / timed[recipe].ms.median)) for recipe in settings.recipes}


def _take(training: OurTraining, prepared: object) -> None:
    training.trainer.stepper.take().item()


def _race(study: str, seed: int, make: Making, steps: Mapping[int, int]) -> list[dict[str, Any]]:
    """Lets the trainings of a seed take turns, and returns a row for each."""
    racing = {recipe: make(recipe, count, seed) for recipe, count in steps.items()}
    while left := [training for training in racing.values() if not training.done]:
        for training in left:
            training.advance()
    return [
        {
            "study": study,
            "recipe": recipe,
            "seed": seed,
            "steps": training.trainer.settings.steps,
            "seconds": training.watch.seconds,
            "cpu_seconds": training.watch.cpu_seconds,
            "metrics": dict(training.trainer.rungs[-1].metrics),
        }
        for recipe, training in racing.items()
    ]
