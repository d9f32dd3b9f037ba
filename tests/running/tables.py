"""Closed-form "training" with simulated seconds: search logic is tested in milliseconds."""

import atexit
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import optuna

from nas.architecture import Architecture
from nas.reasons import Reason
from nas.results import Objective, Rung
from nas.running import serial_executor as serial
from nas.running.coordinator import Coordinator
from nas.running.events import Completed, Event, Failed, Job, Measured, Reached
from nas.running.stop_control import StopControl
from nas.settings import study_file
from nas.settings.study_file import StudyFile
from nas.study.leases import join
from nas.study.store import Store, sqlite_url
from nas.study.transactions import Database
from tests.running.mortal import FullDatabase

RUNGS = (50, 100, 200)


def settings(*overrides: str) -> StudyFile:
    """The shipped study with objectives that a formula can give."""
    return study_file.load(Path(__file__).parents[2] / "search_spaces" / "tiny_lm.toml", overrides)


def cheap(architecture: Architecture) -> dict[str, float]:
    cost = architecture.depth * architecture.hidden
    return {"decode_ms_per_token": cost / 100, "peak_inference_mib": cost / 50, "weights_mib": cost * 24 / 384}


def loss(architecture: Architecture, step: int) -> float:
    heads = architecture.blocks[0].attention.heads
    return 4 - architecture.hidden / 100 - architecture.depth / 5 - heads / 50 - step / 400


@dataclass
class Disk:
    """What outlives a killed driver besides the database: checkpoints, and a tally of the work done."""

    rungs: dict[int, list[Rung]] = field(default_factory=dict)
    measured: Counter[int] = field(default_factory=Counter)
    trained: Counter[tuple[int, int]] = field(default_factory=Counter)


@dataclass
class TableBody:
    """Measures, then trains to each rung, which it saves on the disk before it tells. `fails`: ids → reason."""

    job: Job
    disk: Disk
    fails: Mapping[str, str] = field(default_factory=dict)
    told: int = -1

    def step(self) -> Event:
        architecture = Architecture.model_validate(dict(self.job.architecture))
        if self.told < 0:
            self.told = 0
            if not self.job.metrics:
                self.disk.measured[self.job.number] += 1
            return Measured(self.job.metrics or cheap(architecture))
        if architecture.id in self.fails:
            return Failed(Reason(self.fails[architecture.id]), "planted")
        saved = self.disk.rungs.setdefault(self.job.number, [])
        if self.told == len(saved):
            step = RUNGS[self.told]
            self.disk.trained[self.job.number, step] += 1
            saved.append(Rung(step, step / 10, {"val_loss": loss(architecture, step)}))
        rung = saved[self.told]
        self.told += 1
        return Completed(rung, rung.metrics) if self.told == len(RUNGS) else Reached(rung)


@cache
def _made(objectives: tuple[Objective, ...]) -> Path:
    """A database with an empty study of these objectives: to make Optuna's tables takes longer than many a test."""
    folder = Path(tempfile.mkdtemp(prefix="nas-table-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Store.create(sqlite_url(folder), "study", objectives).close()
    return folder / "study.db"


class Launcher:
    """Launches of one study over a database that outlives each of them. A launch takes all earlier ones for dead."""

    def __init__(
        self,
        folder: Path,
        file: StudyFile,
        fails: Mapping[str, str] | None = None,
        database: Callable[[str], Database] = Database,
    ):
        self.file, self.folder, self.disk, self.fails = file, folder, Disk(), fails or {}
        place = Path(tempfile.mkdtemp(prefix="launches-", dir=folder))
        shutil.copyfile(_made(tuple(file.objective_list())), place / "study.db")
        self.url = sqlite_url(place)
        self.database = database(self.url)

    def coordinator(self, budget: int, writes: int | None = None, **options: Any) -> Coordinator:
        """`writes`: what the database takes before its disk is full."""
        database = self.database
        leases = join(database, "study", budget, grace=0.0, clock=options.get("clock"))
        leases.set_budget(budget)
        if writes is not None:
            leases.jobs.database = full = FullDatabase(self.url)
            full.left = writes
        return Coordinator(leases, self.file, **options)

    def body(self, job: Job) -> TableBody:
        return TableBody(job, self.disk, self.fails)

    def run(self, budget: int, **options: Any) -> Coordinator:
        """One whole serial launch."""
        coordinator = self.coordinator(budget, **options)
        serial.run(coordinator, self.body, StopControl(self.folder))
        coordinator.close()
        return coordinator

    def rows(self) -> list[optuna.trial.FrozenTrial]:
        return Store(self.database, "study").rows()
