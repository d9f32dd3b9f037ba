"""Measures and trains architectures again, all in the same way, to find what a place on a front is really worth.

First each architecture is measured alone. Then they are trained to the full budget, several side by side unless an
objective is itself a training time, all with the same seeds, which no search used.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from pydantic import BaseModel, TypeAdapter

from nas import files
from nas.architecture import Architecture
from nas.bench import result_folder
from nas.bench.pool import side_by_side
from nas.measure import DeviceLock
from nas.running.measuring import measure_alone
from nas.running.proposer import key_of, seed_of
from nas.settings.study_file import StudyFile
from nas.settings.task_settings import TaskSettings
from nas.tasks import Task, open_task
from nas.training.trainer import Diverged, Trainer

Say = Callable[[str], object]


class Entry(BaseModel):
    """Describes an entry of a shelf's file."""

    architecture: Architecture
    learning_rate: float | None
    measured: dict[str, float]
    trained: dict[str, dict[Literal["failed"], str] | dict[str, float]]


ENTRIES = TypeAdapter(dict[str, Entry])


class Shelf:
    """Keeps what is known of each architecture, by `key_of`, and writes its file after every addition.

    An entry is `{architecture, learning_rate, measured, trained}`: `measured` is None at first, and `trained` holds the
    metrics of each seed, or `{failed: why}`.
    """

    def __init__(self, path: Path) -> None:
        """Reads what the file holds. Raises Conflict where no benchmark wrote it, or it is damaged."""
        self.path = path
        self.entries: dict[str, dict[str, Any]] = {}
        if os.path.lexists(path):
            self.entries = result_folder.read(path, shape=ENTRIES)

    def add(self, architecture: Mapping[str, Any], learning_rate: float | None) -> str:
        """Adds an architecture and returns its key. The file is written when it has been measured."""
        key = key_of(Architecture.model_validate(dict(architecture)).id, learning_rate)
        new = {"architecture": dict(architecture), "learning_rate": learning_rate, "measured": None, "trained": {}}
        self.entries.setdefault(key, new)
        return key

    def metrics(self, key: str, seeds: int) -> dict[str, float] | None:
        """Returns all measurements and the mean of the first so many seeds, or None when one of them failed."""
        entry = self.entries[key]
        runs = [entry["trained"][str(seed)] for seed in range(seeds)]
        if any("failed" in run for run in runs):
            return None
        means = {name: fmean(run[name] for run in runs) for name in runs[0]} if runs else {}
        return {**entry["measured"], **means}

    def measure(self, keys: Iterable[str], file: StudyFile, task: Task, device: str, say: Say) -> None:
        """Measures the architectures that are not measured yet, one after another."""
        lock, left = DeviceLock(device), [key for key in keys if self.entries[key]["measured"] is None]
        for i, key in enumerate(left, start=1):
            say(f"measuring {i} of {len(left)}, idle")
            architecture = Architecture.model_validate(self.entries[key]["architecture"])
            self.entries[key]["measured"] = measure_alone(architecture, task, file, device, lock)
            self.save()

    def train(self, keys: Iterable[str], seeds: int, file: StudyFile, device: str, jobs: int, say: Say) -> None:
        """Trains the seeds of these architectures that are not trained yet. Raises NasError when a process dies."""
        left = [(key, seed) for key in keys for seed in range(seeds) if str(seed) not in self.entries[key]["trained"]]
        work = partial(_train, file=file, device=device)
        calls = [((key, seed), self.entries[key]) for key, seed in left]
        for i, (((key, seed), _), result) in enumerate(side_by_side(work, calls, jobs), start=1):
            self.entries[key]["trained"][str(seed)] = result
            self.save()
            say(f"trained again {i} of {len(left)}")

    def contended(self, keys: Sequence[str]) -> float:
        """Returns the share of these that others disturbed while they were measured."""
        return fmean(self.entries[key]["measured"]["contended"] for key in keys)

    def save(self) -> None:
        known = {key: entry for key, entry in self.entries.items() if entry["measured"] is not None}
        files.write_json(self.path, known)


def jobs_of(file: StudyFile, jobs: int) -> int:
    """Returns how many trainings may run at once: one where an objective or a limit is a time of training."""
    return jobs if all(each.means.cheap or each.means.exact for each in file.judged()) else 1


def _train(
    call: tuple[tuple[str, int], Mapping[str, Any]], *, file: StudyFile, device: str
) -> dict[str, float] | dict[str, str]:
    """Trains once to the full budget, in its own process."""
    (_, seed), entry = call
    torch.set_num_threads(max(1, int(file.resources.cpus_per_trial)))
    trainer = Trainer(
        Architecture.model_validate(entry["architecture"]),
        _task(file.task),
        file.train.model_copy(update={"rungs": (1.0,), "time_limit": None}),
        seed=seed_of("trained again", seed),
        device=device,
        learning_rate=entry["learning_rate"],
        lock=DeviceLock(device),
    )
    try:
        return dict(trainer.run_to_next_rung().metrics)
    except Diverged as error:
        return {"failed": error.message}


@cache
def _task(settings: TaskSettings) -> Task:
    """Opens the task once a process."""
    return open_task(settings)
