"""Runs one launch of a search: locks the folder, opens or creates the study, runs it, and measures the front again.

A launch on a stored study continues it when the file agrees with what is stored. Only settings that cannot change a
result (the budget, the resources, a time limit) may differ.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from nas.body import BodyFunction
from nas.data.place import with_absolute_corpus
from nas.errors import UsageError
from nas.folders import require_current_folder
from nas.intervals import steady_clock
from nas.measure import DeviceLock, environment
from nas.measure.costs import Costs
from nas.measure.resident import give_back
from nas.results import State, TrialResult
from nas.running import own_body
from nas.running import serial_executor as serial
from nas.running.budget import End
from nas.running.cleaning import clean
from nas.running.coordinator import Coordinator, Observer
from nas.running.events import data_progress
from nas.running.front_measurement import COUNTED, MEMBER_SECONDS, measure_again
from nas.running.measuring import LoneMeasurement
from nas.running.own_body import OwnBody
from nas.running.own_trial import OwnTrial
from nas.running.placed import placed
from nas.running.placement import Placement, refuse_network
from nas.running.same_study import refuse_another, with_search_rules, with_stored_recipe
from nas.running.stop_control import Level, StopControl
from nas.running.trial import TrialRun, end_team
from nas.running.work_log import WorkLog
from nas.settings import recipe_versions
from nas.settings.study_file import StudyFile
from nas.study import creation, run_folders
from nas.study.database import DATABASE
from nas.study.lock import driver_lock
from nas.study.run_folders import FolderPlace
from nas.study.store import Store
from nas.study.stored_study import StoredStudy
from nas.study.transactions import Database
from nas.surroundings import one_blas_thread
from nas.tasks import Task, floors_of, open_task
from nas.training.torch_state import borrowed_torch


@dataclass(frozen=True)
class Launch:
    """Holds the options that each launch may choose. None means: as the study says, or all that the machine has."""

    executor: Literal["ray", "serial"] = "ray"
    trials: int | None = None
    seconds: float | None = None
    cpus: float | None = None
    gpus: float | None = None
    ray_address: str | None = None
    """A Ray cluster to join: HOST:PORT, or "auto" for the one that runs on this machine. None starts a Ray here."""
    max_fail_rate: float = 0.5
    retry_failed: bool = False
    source: str = "the study file"
    """The place that the settings come from, for errors."""
    command: str = ""
    described: Mapping[str, Any] | None = None
    """The hardware on which trials are measured, where it is a cluster's; see nas.measure.environment."""
    hosted: bool = False
    """True where the search runs within another program, and not as a command; see StopControl."""
    folder: FolderPlace | None = None
    """The place for the files of trials; None for the study's own folder."""


@dataclass(frozen=True)
class Outcome:
    """Tells how a launch ended. `end` is None when it was interrupted or ran out of time."""

    study: StoredStudy
    end: End | None
    signal: int | None
    seconds: float


def run(
    file: StudyFile,
    folder: Path,
    launch: Launch,
    observer: Observer = lambda event: None,
    body: BodyFunction | str | None = None,
    database: Database | None = None,
) -> Outcome:
    """Searches in this folder until the budget is reached or the search has to stop.

    `body` is a training of the user's own, a function or "module:function"; by default it is the file's, if it has one.
    `database` holds the rows; by default it is `study.db` in the folder.
    Raises Conflict (another driver, other settings, data or hardware), OutOfReach (disk, database, Ray) and UsageError.
    """
    require_current_folder()
    file, own = own_body.chosen(file, body)
    with placed(file, launch.cpus, launch.gpus, launch.ray_address, observer) as placement:
        described = placement.cluster.environment if placement.cluster else None
        return _run(file, own, folder, replace(launch, described=described), placement, observer, database)


def _run(
    file: StudyFile,
    own: OwnBody | None,
    folder: Path,
    launch: Launch,
    placement: Placement,
    observer: Observer,
    database: Database | None,
) -> Outcome:
    started = time.monotonic()
    file = with_absolute_corpus(placement.fitted(file))
    task = None if own else open_task(file.task, data_progress(observer))
    creation.refuse_foreign(folder)
    refuse_network(folder)
    with driver_lock(folder), borrowed_torch():
        store = _open_or_create(folder, file, launch, task, observer, database)
        file = with_stored_recipe(file, store.attributes())
        clock = steady_clock()
        work = WorkLog(store, clock)
        try:
            control = StopControl(
                folder,
                launch.seconds,
                lambda level: observer({"type": "stopping", "level": level.name}),
                hosted=launch.hosted,
            )
            control.on_look = work.beat
            kept = run_folders.to_run(store, folder, launch.folder)
            study = StoredStudy(
                folder, store, database.server if database else None, run_folder=kept, named=launch.folder
            )
            with control.signals():
                end = _search(study, file, launch, placement, control, observer, task, own, clock)
                if end is not None and task and placement.measures_here():
                    _measure_front(study, task, placement.device, control, observer)
            if end is not None:
                clean(study)
        finally:
            work.close()
            store.close()
    return Outcome(study, end, control.signal, time.monotonic() - started)


def _search(
    study: StoredStudy,
    file: StudyFile,
    launch: Launch,
    placement: Placement,
    control: StopControl,
    observer: Observer,
    task: Task | None,
    own: OwnBody | None,
    clock: Callable[[], float],
) -> End | None:
    store = study.store
    coordinator = Coordinator(
        store,
        file,
        owner=f"{platform.node()}:{os.getpid()}",
        budget=store.attributes()["budget"],
        prefetch=launch.executor == "ray",
        max_fail_rate=launch.max_fail_rate,
        clock=clock,
        observer=observer,
        describe=Costs(task.vocabulary, task.context, file.measure.batch, task.head).metrics if task else None,
    )
    kind = partial(OwnTrial, body=own) if own else TrialRun
    folder, device = study.folder.absolute(), placement.device
    factory = partial(kind, file=file, folder=folder, device=device, run_folder=study.run_folder)
    try:
        _enqueue(coordinator, file, launch.retry_failed)
        observer(_introduction(study, coordinator))
        if launch.executor == "serial":
            serial.run(coordinator, partial(factory, should_stop=lambda: control.level() is Level.NOW), control)
        elif coordinator.counts.trained < coordinator.budget:
            from nas.running import (
                ray_executor as ray_tune,  # two seconds of imports that the serial executor does without
            )

            with one_blas_thread():
                ray_tune.run(coordinator, factory, control, placement)
    finally:
        end_team()  # the serial executor's; those of a worker end with it
        coordinator.close()
    return coordinator.end if control.level() is Level.GO else None


def _introduction(study: StoredStudy, coordinator: Coordinator) -> dict[str, Any]:
    """Returns the first event: what the study holds already."""
    record = study.record()
    values = [t.values(record.objectives) for t in record.trials if t.eligible]
    facts = {"name": study.name, "folder": str(study.folder), "budget": coordinator.budget}
    return {"type": "study", **facts, "counts": asdict(coordinator.counts), "values": values}


def _enqueue(coordinator: Coordinator, file: StudyFile, retry_failed: bool) -> None:
    """Enqueues baselines that have no row yet, then failed trials if asked for."""
    rows = coordinator.store.rows()
    known = {row.user_attrs["architecture_id"] for row in rows}
    rates = file.train.learning_rate or ()
    for design in file.baseline_designs():
        if design.id not in known:
            known.add(design.id)
            coordinator.enqueue(design, rates[0] if len(rates) > 1 else None, baseline=True)
    retried = {row.user_attrs.get("retry_of") for row in rows}
    for row in rows:
        if retry_failed and row.state.name == State.FAIL and row.number not in retried:
            coordinator.enqueue_again(row)


def _open_or_create(
    folder: Path,
    file: StudyFile,
    launch: Launch,
    task: Task | None,
    observer: Observer,
    database: Database | None,
) -> Store:
    """Opens or creates the study. Raises Conflict, and changes nothing, where another study or others' files stand."""
    now, settings = _environment(file, launch), file.to_toml()
    store = creation.open_to_write(folder, file.name, file.objective_list(), database)
    if store is None:
        if not (folder / DATABASE).exists():
            creation.refuse_strangers(folder, settings)
        store = _create(folder, file, launch, task, now, database)
        creation.write_descriptions(folder, settings, now, anew=True)
        return store
    try:
        _go_on(store, folder, file, launch, task, observer)
        creation.write_descriptions(folder, settings, now, anew=False)
    except BaseException:
        store.close()
        raise
    return store


def _create(
    folder: Path,
    file: StudyFile,
    launch: Launch,
    task: Task | None,
    now: Mapping[str, Any],
    database: Database | None,
) -> Store:
    """Writes the study's attributes. Raises InvalidStudyFile for a recipe that this version does not have."""
    recipe_versions.check(file.train.recipe)
    floors = {"floors": floors_of(task, file.train.evaluation_tokens)} if task else {}
    give_back()
    attributes = {
        **({"data": task.describe() | floors} if task else {}),
        "environment": now,
        "created": time.time(),
        "budget": launch.trials or file.search.trials,
        "settings": file.resolved(),
    }
    return creation.create(folder, file.name, file.objective_list(), attributes, database)


def _go_on(store: Store, folder: Path, file: StudyFile, launch: Launch, task: Task | None, observer: Observer) -> None:
    """Raises Conflict when the stored study differs, and UsageError when more trials are trained than asked for."""
    stored, trials = store.attributes(), StoredStudy(folder, store).trials()
    file = with_stored_recipe(file, stored)
    trained = sum(trial.trained for trial in trials)
    refuse_another(stored, file, launch.source, task.describe() if task else None, _environment(file, launch), trained)
    if (settings := with_search_rules(stored["settings"], file)) != stored["settings"]:
        store.set_attribute("settings", settings)
    asked_first = stored["settings"]["search"]["trials"]
    known = stored.get("budget", asked_first)
    budget = launch.trials or (known if file.search.trials == asked_first else max(file.search.trials, known))
    if budget < trained:
        text = f"study '{file.name}' has trained {trained} trials, more than the {budget} that are asked for"
        raise UsageError(text, where="--trials", help="give the total that you want, earlier trials counted")
    if budget != stored.get("budget"):
        store.set_attribute("budget", budget)
        observer({"type": "budget", "budget": budget, "before": known})


def _environment(file: StudyFile, launch: Launch) -> dict[str, Any]:
    return dict(launch.described or environment()) | {"command": launch.command, "seed": file.search.seed}


def _measure_front(study: StoredStudy, task: Task, device: str, control: StopControl, observer: Observer) -> None:
    """Measures the front once more, now that nothing trains: see nas.running.front_measurement."""
    lock = DeviceLock(device)

    def should_stop() -> bool:
        return control.level() is not Level.GO

    def measurer(trial: TrialResult) -> LoneMeasurement:
        counted = {name: value for name, value in trial.metrics.items() if name in COUNTED}
        return LoneMeasurement.of(trial.model, task, study.file, device, lock, MEMBER_SECONDS, should_stop, counted)

    measure_again(study, measurer, observer, should_stop)
