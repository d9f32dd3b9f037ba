"""Compares our search with stock Ray Tune with `OptunaSearch`: the same trial, space, machine and time, in turn.

With `rows` also with our driver under other settings, and with peers that stop trainings early: Optuna's samplers with
OptunaHub's pruner of several metrics (nas.bench.pruned), and PriMO of NePS (nas.bench.primo).

    for each seed: ours, stock (the next seed: stock, ours)       nas.bench.launches, nas.bench.stock
    front members are measured and trained again                  nas.bench.retraining
    the hypervolume of every line over its seconds                nas.bench.replay

Each run, measurement and training is kept in the folder as soon as it is done; a second call with the same settings
continues with what is missing. Baselines of the study file are left out, since stock has none.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from nas import files
from nas.architecture import Architecture
from nas.bench import launches, result_folder
from nas.bench.launches import OURS, PRIMO, PRUNED, STOCK
from nas.bench.pruned import ONLINE, load_pruner
from nas.bench.reference import costs_training, largest, reference
from nas.bench.replay import Finish, Lines, Scale, members
from nas.bench.retraining import Say, Shelf, jobs_of
from nas.bench.search_result import conclude
from nas.data.place import with_absolute_corpus
from nas.errors import Conflict, NasError, NothingFeasible, UsageError, nearest
from nas.measure import environment, hardware_id
from nas.running.placement import place
from nas.settings import study_file
from nas.settings.study_file import StudyFile
from nas.space.settings import difference
from nas.tasks import Task, open_task

ROWS: dict[str, tuple[str, ...]] = {
    OURS: (),
    STOCK: (),
    "random": ("search.sampler=random",),
    "nsga2": ("search.sampler=nsga2",),
    "gp": ("search.sampler=gp",),
    "unstopped": ("search.stopping=false", "search.skip=false"),
}
"""The searches that run, with their changes to the study file. All but stock and PEERS use our driver."""
PEERS = (*PRUNED, PRIMO)
FILES = ("result.json", "timeline.csv", "hypervolume.svg", "hypervolume.png", "retrained.json", "runs")
FOLDER = Path("reports/benchmarks/search")
NOT_COMPARED = ("name", "baselines", "search.trials", "search.seed", "task.corpus")
"""Settings that the benchmark itself sets; the corpus is compared by its hash."""


class Facts(BaseModel):
    """Describes settings.json."""

    minutes: float
    data: str
    environment: dict[str, Any]
    study: dict[str, Any]


class FinishedTrial(BaseModel):
    """Describes a trial in the file of a run."""

    seconds: float
    architecture: Architecture
    learning_rate: float | None
    metrics: dict[str, float]


class FinishedRun(BaseModel):
    """Describes the file of a run."""

    who: str
    seed: int
    trials: list[FinishedTrial]


Run = Callable[[str, StudyFile, float], list[dict[str, Any]]]
"""The type of `nas.bench.launches.run`, which is the default."""


@dataclass(frozen=True)
class Settings:
    """Holds the settings: `rows` adds all of ROWS and the peers to ours and stock; `only` keeps these of them.

    `jobs` trainings run side by side after the runs; with None, as many as in the runs. `registry` is a clone of
    OptunaHub's, or "online", without which its pruner is left out; `neps` is a Python that has NePS, for PriMO.
    """

    file: Path
    minutes: float
    seeds: int
    rows: bool = False
    retrain_seeds: int = 1
    jobs: int | None = None
    registry: str | None = None
    neps: str | None = None
    only: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises UsageError for settings out of range."""
        if not (self.minutes > 0 and math.isfinite(self.minutes)):
            raise UsageError(f"--minutes must be above 0, got {self.minutes:g}", where="--minutes")
        counts = {"--seeds": self.seeds, "--retrain-seeds": self.retrain_seeds, "--jobs": self.jobs}
        for option, count in counts.items():
            if count is not None and count < 1:
                raise UsageError(f"{option} must be at least 1, got {count}", where=option)
        for who in self.only:
            if who not in (*ROWS, *PEERS):
                raise UsageError(f"unknown search '{who}'", where="--only", help=nearest(who, (*ROWS, *PEERS)))
        for who, option in self.missing().items():
            if who in self.only:
                raise UsageError(f"{who} needs {option}", where="--only", help="docs/commands.md says how to get it")

    def studies(self) -> dict[str, StudyFile]:
        """Returns the studies by row. Raises InvalidStudyFile."""
        return {who: _without_baselines(study_file.load(self.file, ROWS.get(who, ()))) for who in self.names()}

    def names(self) -> list[str]:
        """Returns the searches that run; ours and stock always do."""
        missing = self.missing()
        every = [*ROWS, *(who for who in PEERS if who not in missing)] if self.rows else [OURS, STOCK]
        return [who for who in every if not self.only or who in (OURS, STOCK, *self.only)]

    def missing(self) -> dict[str, str]:
        """Returns the peers of which nothing says where they are, with the option that would."""
        pruned = {} if self.registry else dict.fromkeys(PRUNED, "--registry")
        return pruned if self.neps else {**pruned, PRIMO: "--neps"}


def default_folder(settings: Settings) -> Path:
    return FOLDER / f"{study_file.load(settings.file).name}-{settings.minutes:g}min"


def compare(settings: Settings, out: Path, say: Say, run: Run | None = None) -> dict[str, Any]:
    """Computes what is missing in the folder, then its result.json, timeline.csv, hypervolume.svg and hypervolume.png.

    Returns the content of result.json. Raises UsageError, Conflict when the folder holds a benchmark of other settings,
    OutOfReach when it cannot be written, NasError when a run fails.
    """
    settings.check()
    studies, launch = settings.studies(), run or partial(launches.run, peers=_peers(settings))
    for who, option in settings.missing().items() if settings.rows and not settings.only else ():
        say(f"{who} is left out: it needs {option}")
    if set(PRUNED) & studies.keys():
        load_pruner(settings.registry)
    file = studies[OURS]
    placement, task = place(file), open_task(file.task)
    _claim(out, settings, file, task)
    found = {who: [list[dict[str, Any]]() for _ in range(settings.seeds)] for who in studies}
    for seed in range(settings.seeds):
        for who in studies if seed % 2 == 0 else reversed(studies):
            found[who][seed] = _run_once(who, seed, studies[who], settings, out, say, launch)
    shelf = Shelf(out / "retrained.json")
    lines = {who: [[_finish(trial, shelf) for trial in trials] for trials in runs] for who, runs in found.items()}
    jobs = jobs_of(file, settings.jobs or placement.slots)
    scale = _retrain(settings.retrain_seeds, file, task, placement.device, jobs, lines, shelf, say)
    retrained = {key: shelf.metrics(key, settings.retrain_seeds) for key in members(lines, scale)}
    facts = {"study": file.name, "minutes": settings.minutes, "seeds": settings.seeds}
    facts |= {"retrain_seeds": settings.retrain_seeds, "contended": shelf.contended(list(retrained))}
    return conclude(facts, lines, scale, retrained, out)


def _peers(settings: Settings) -> dict[str, str | None]:
    """Returns where peers are, as `launches.run` takes it."""
    registry = settings.registry
    absolute = registry if registry in (None, ONLINE) else str(Path(registry).absolute())
    return {"registry": absolute, "neps": settings.neps}


def _without_baselines(file: StudyFile) -> StudyFile:
    return with_absolute_corpus(file).model_copy(update={"baselines": ()})


def _claim(out: Path, settings: Settings, file: StudyFile, task: Task) -> None:
    """Writes down the settings of the folder, or checks them. Raises Conflict with the first difference."""
    path, data = out / "settings.json", task.describe()
    study = file.resolved() | {"task": file.resolved()["task"] | {"corpus": Path(data["name"]).name}}
    now = {"minutes": settings.minutes, "data": data["sha256"], "environment": environment(), "study": study}
    result_folder.claim(out, {"settings.json": ("minutes", "data", "environment", "study")}, FILES)
    if not path.exists():
        files.write_json(path, now)
        return
    stored = result_folder.read(path, shape=TypeAdapter(Facts))
    # Parsed again, so that keys added in this version appear with their defaults.
    before = result_folder.check(path, stored["study"], TypeAdapter(StudyFile)).resolved()
    changed = [
        *((f"study.{p}", a, b) for p, a, b in difference(before, study) if not p.startswith(NOT_COMPARED)),
        *((key, stored[key], now[key]) for key in ("minutes", "data") if stored[key] != now[key]),
    ]
    if hardware_id(stored["environment"]) != hardware_id(now["environment"]):
        changed.append(("hardware", stored["environment"].get("cpu"), now["environment"]["cpu"]))
    for place_of_it, old, new in changed:
        raise Conflict(
            f"{out} holds a benchmark with other settings",
            code="settings-changed",
            where=place_of_it,
            detail=f"stored {old}   now {new}",
            help="--out DIR   writes to another folder",
        )


def _run_once(
    who: str, seed: int, file: StudyFile, settings: Settings, out: Path, say: Say, run: Run
) -> list[dict[str, Any]]:
    """Returns the time line of one run, from the folder if it is there."""
    path = files.refuse_links(out, "runs", f"{who}-{seed}.json")
    if os.path.lexists(path):
        stored: list[dict[str, Any]] = result_folder.read(path, shape=TypeAdapter(FinishedRun))["trials"]
        return stored
    say(f"{who}, seed {seed}: {settings.minutes:g} minutes")
    trials = run(
        who,
        file.model_copy(update={"search": file.search.model_copy(update={"seed": seed})}),
        60 * settings.minutes,
    )
    if not trials:
        text = f"the {who} run of seed {seed} finished no trial in {settings.minutes:g} minutes"
        raise NasError(text, help="give more --minutes, or train fewer steps")
    facts = {"who": who, "seed": seed, "minutes": settings.minutes, "environment": environment()}
    files.write_json(path, {**facts, "trials": trials})
    return trials


def _finish(trial: Mapping[str, Any], shelf: Shelf) -> Finish:
    return Finish(trial["seconds"], shelf.add(trial["architecture"], trial["learning_rate"]), trial["metrics"])


def _retrain(
    seeds: int, file: StudyFile, task: Task, device: str, jobs: int, lines: Lines, shelf: Shelf, say: Say
) -> Scale:
    """Measures and trains again all front members, and what the reference point needs."""
    objectives, constraints = file.objective_list(), file.constraint_list()
    keys = members(lines, Scale(objectives, constraints, {}))
    if not keys:
        limits = ", ".join(map(str, constraints))
        raise NothingFeasible("no finished trial is within the limits", detail=limits, help="give more --minutes")
    rates = file.train.learning_rate or ()
    bound = shelf.add(largest(file, task).canonical(), rates[0] if len(rates) > 1 else None)
    shelf.measure(dict.fromkeys([bound, *keys]), file, task, device, say)
    trained = costs_training(objectives, task)
    shelf.train(dict.fromkeys([bound, *keys] if trained else keys), seeds, file, device, jobs, say)
    costs = shelf.metrics(bound, seeds if trained else 0)
    if costs is None:
        raise NasError("the largest architecture of the space does not train", help="lower train.learning_rate")
    return Scale(objectives, constraints, reference(objectives, task, costs))
