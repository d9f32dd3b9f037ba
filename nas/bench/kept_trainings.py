"""Trains architectures for several numbers of steps and with several seeds, and keeps each result in a folder."""

import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, TypeAdapter

from nas import files, pareto
from nas.architecture import Architecture
from nas.bench import result_folder
from nas.bench.pool import side_by_side
from nas.bench.reference import parameters
from nas.errors import Conflict, UsageError
from nas.measure import environment
from nas.results import Objective, State, StudyRecord
from nas.running.placement import place
from nas.running.proposer import key_of, seed_of
from nas.settings.study_file import StudyFile
from nas.settings.task_settings import TaskSettings
from nas.space.architecture_space import Space
from nas.tasks import Task, open_task
from nas.training.trainer import Diverged, Trainer, rung_steps

FILE = "trainings.json"
Say = Callable[[str], object]


@dataclass(frozen=True)
class Candidate:
    """Holds an architecture with the learning rate that it trains with; None is the recipe's own."""

    architecture: Architecture
    learning_rate: float | None = None

    @property
    def key(self) -> str:
        return key_of(self.architecture.id, self.learning_rate)


@dataclass(frozen=True)
class Training:
    """Describes one training: so many steps, evaluated after each of `rungs`, shares of the steps."""

    candidate: Candidate
    steps: int
    rungs: tuple[float, ...]
    seed: int

    @property
    def key(self) -> tuple[str, int, int]:
        return self.candidate.key, self.steps, self.seed


class FinishedTraining(BaseModel):
    """Describes a row of trainings.json."""

    key: str
    architecture: Architecture
    learning_rate: float | None
    steps: int
    seed: int
    params: int
    quality: dict[str, float]
    seconds: float
    failed: str


class Stored(BaseModel):
    """Describes trainings.json."""

    settings: dict[str, Any]
    rows: list[FinishedTraining]


def quality_of(file: StudyFile) -> Objective:
    """Returns the first objective that training decides. Raises UsageError where there is none."""
    for objective in file.objective_list():
        if not objective.means.cheap and objective.means.exact and file.trial is None:
            return objective
    text = f"study '{file.name}' has no objective that the built-in training decides"
    raise UsageError(text, where="FILE", help="give it one: [[objectives]] metric = 'val_loss'")


def drawn(file: StudyFile, count: int, seed: int = 0) -> list[Candidate]:
    """Draws distinct architectures of the file's space; fewer draws give the first of them.

    Raises UsageError for a space that has fewer.
    """
    space, generator = Space(file.spaces()), random.Random(f"{seed}:architectures")
    rates = list(file.train.learning_rate or ())
    if (most := space.size() * max(1, len(rates))) < count:
        text = f"the space of '{file.name}' has {most} architectures, and {count} are wanted"
        raise UsageError(text, where="--architectures", help=f"at most {most}")
    found: dict[str, Candidate] = {}
    while len(found) < count:
        architecture = space.sample(generator)
        candidate = Candidate(architecture, generator.choice(rates) if len(rates) > 1 else None)
        found.setdefault(candidate.key, candidate)
    return list(found.values())


def of_study(record: StudyRecord, count: int, objective: Objective) -> list[Candidate]:
    """Picks fully trained trials of a search, evenly from the best to the worst; all where it has fewer.

    Raises UsageError where it has fewer than three.
    """
    rows = [t for t in record.trials if t.state is State.COMPLETE and t.architecture and objective.metric in t.metrics]
    rows.sort(key=lambda t: pareto.as_minimised([[t.metrics[objective.metric]]], [objective.goal])[0, 0])
    found = list({(c := _candidate(t.architecture, t.learning_rate)).key: c for t in rows}.values())
    if len(found) < 3:
        text = f"study '{record.name}' has {len(found)} fully trained architectures; at least 3 are needed"
        raise UsageError(text, where="--study", help="leave --study out to draw them from the space")
    if count >= len(found):
        return found
    return [found[round(i * (len(found) - 1) / (count - 1))] for i in range(count)]


def _candidate(architecture: Mapping[str, Any], learning_rate: float | None) -> Candidate:
    return Candidate(Architecture.model_validate(dict(architecture)), learning_rate)


class KeptTrainings:
    """Keeps the trainings of one benchmark in its folder, and makes those that are missing."""

    def __init__(self, folder: Path, file: StudyFile) -> None:
        """Reads what the folder holds. Raises Conflict where no benchmark wrote it, or it has other settings."""
        self.file, self.objective, self.path = file, quality_of(file), folder / FILE
        self.settings = {
            "train": file.train.model_dump(mode="json", exclude={"steps", "rungs", "time_limit"}),
            "task": file.task.model_dump(mode="json", exclude={"corpus"}),
            "data": open_task(file.task).describe()["sha256"],
            "quality": self.objective.metric,
        }
        self.rows: dict[tuple[str, int, int], dict[str, Any]] = {}
        if os.path.lexists(self.path):
            stored = result_folder.read(self.path, shape=TypeAdapter(Stored))
            self._check(stored["settings"])
            self.rows = {(row["key"], row["steps"], row["seed"]): row for row in stored["rows"]}

    def _check(self, stored: Mapping[str, Any]) -> None:
        for name, now in self.settings.items():
            if stored.get(name) != now:
                raise Conflict(
                    "the folder holds trainings with other settings",
                    code="settings-changed",
                    where=f"{self.path}: {name}",
                    detail=f"stored {stored.get(name)}   now {now}",
                    help="--out DIR   writes to another folder",
                )

    def make(self, wanted: Sequence[Training], jobs: int | None, say: Say) -> None:
        """Makes the trainings that are missing, several side by side. Raises NasError when a process dies."""
        placement = place(self.file)
        left = [training for training in wanted if not self._has(training)]
        if len(left) < len(wanted):
            say(f"{len(wanted) - len(left)} of {len(wanted)} trainings are there already")
        work = partial(_train, file=self.file, device=placement.device, metric=self.objective.metric)
        for done, (training, row) in enumerate(side_by_side(work, left, jobs or placement.slots), start=1):
            self.rows[training.key] = row
            files.write_json(self.path, {"settings": self.settings, "rows": list(self.rows.values())})
            told = row["failed"] or f"{self.objective.metric} {list(row['quality'].values())[-1]:.4f}"
            say(f"{done} of {len(left)}: {training.candidate.architecture}, {training.steps:,} steps: {told}")

    def _has(self, training: Training) -> bool:
        """Tells whether the training is there with all its rungs; one that diverged is."""
        row = self.rows.get(training.key)
        wanted = rung_steps(self.file.train.model_copy(update={"steps": training.steps, "rungs": training.rungs}))
        return row is not None and (bool(row["failed"]) or all(str(step) in row["quality"] for step in wanted))

    def quality(self, candidate: Candidate, steps: int, seed: int, after: int) -> float:
        """Returns the quality after so many steps, as a value to minimise; infinity where training had diverged."""
        row = self.rows[candidate.key, steps, seed]
        value: float = row["quality"].get(str(after), math.inf)
        return -value if self.objective.goal == "max" and math.isfinite(value) else value


def finished(kept: KeptTrainings, wanted: Sequence[Training]) -> list[dict[str, Any]]:
    """Returns the rows of these trainings, in order."""
    return [dict(kept.rows[training.key]) for training in wanted]


def facts(file: StudyFile) -> dict[str, Any]:
    return {"study": file.name, "environment": environment() | {"threads": _threads(file)}}


def _threads(file: StudyFile) -> int:
    return max(1, int(file.resources.cpus_per_trial))


def _train(training: Training, *, file: StudyFile, device: str, metric: str) -> dict[str, Any]:
    """Trains once, in its own process."""
    torch.set_num_threads(_threads(file))
    task, candidate = _task(file.task), training.candidate
    changes = {"steps": training.steps, "rungs": training.rungs, "time_limit": None}
    trainer = Trainer(
        candidate.architecture,
        task,
        file.train.model_copy(update=changes),
        seed=seed_of("ranking", training.seed),
        device=device,
        learning_rate=candidate.learning_rate,
    )
    failed = ""
    try:
        while not trainer.done:
            trainer.run_to_next_rung()
    except Diverged as error:
        failed = error.message
    return {
        "key": candidate.key,
        "architecture": candidate.architecture.canonical(),
        "learning_rate": candidate.learning_rate,
        "steps": training.steps,
        "seed": training.seed,
        "params": parameters(candidate.architecture, task),
        "quality": {str(rung.step): rung.metrics[metric] for rung in trainer.rungs},
        "seconds": trainer.seconds,
        "failed": failed,
    }


@cache
def _task(settings: TaskSettings) -> Task:
    """Opens the task once a process."""
    return open_task(settings)
