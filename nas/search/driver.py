"""One launch of a search: lock the folder, open or create the study, run it, measure the front once more.

A launch on a stored study goes on with it when the file agrees with what is stored; only what cannot change a result
(the budget, the resources, a time limit) may differ.
"""

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from filelock import FileLock, Timeout

from nas import pareto
from nas.errors import Conflict, OutOfReach, UsageError
from nas.measure import DeviceLock, environment, hardware_id
from nas.results import METRICS, State
from nas.search import serial
from nas.search.control import Control, Level
from nas.search.coordinator import Coordinator, End, Observer
from nas.search.store import Store, sqlite_url
from nas.search.study import Study, write_json
from nas.search.trial import CHECKPOINT, TrialRun, measure_architecture
from nas.space import difference
from nas.study_file import StudyFile
from nas.tasks import Task, open_task

FREE_TO_CHANGE = ("name", "search.trials", "resources.", "train.time_limit")
NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "lustre", "gpfs", "ceph", "afs")


@dataclass(frozen=True)
class Launch:
    """What a command may choose anew each time. None: as the study says, or all that the machine has."""

    executor: Literal["ray", "serial"] = "ray"
    trials: int | None = None
    seconds: float | None = None
    cpus: float | None = None
    gpus: float | None = None
    max_fail_rate: float = 0.5
    retry_failed: bool = False
    source: str = "the study file"
    """Where the settings come from, for errors."""
    command: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a launch ended. `end` is None when it was interrupted or ran out of time."""

    study: Study
    end: End | None
    signal: int | None
    seconds: float


def run(file: StudyFile, folder: Path, launch: Launch, observer: Observer = lambda event: None) -> Outcome:
    """Search in this folder until the budget is reached, or as far as it gets.

    Raises Conflict (another driver, other settings, data or hardware), OutOfReach (disk, database, Ray), UsageError.
    """
    started = time.monotonic()
    device, gpus = resolve_device(file, launch.gpus)
    file = _without_gpus(file) if device == "cpu" and file.resources.device == "auto" else file
    task = open_task(file.task)
    with driver_lock(folder):
        store = _open_or_create(folder, file, launch, task)
        try:
            control = Control(folder, launch.seconds, lambda level: observer({"type": "stopping", "level": level.name}))
            with control.signals():
                end = _search(store, folder, file, launch, control, device, gpus, observer)
            study = Study(folder, store)
            if end is not None:
                _measure_front(study, task, device, observer)
                _clean(study)
        finally:
            store.close()
    return Outcome(study, end, control.signal, time.monotonic() - started)


def resolve_device(file: StudyFile, gpus: float | None) -> tuple[str, float]:
    """("cpu" or "cuda", how many GPUs Ray is to count). On `device = "cpu"` asked-for GPUs are logical slots.

    Raises UsageError when GPUs are asked for and the machine has none.
    """
    wanted, present = file.resources.device, torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cpu":
        return "cpu", gpus or 0.0
    if not present and (gpus or wanted == "cuda"):
        asked = f"--gpus {gpus:g}" if gpus else 'resources.device = "cuda"'
        help = 'leave it out, or set resources.device = "cpu" to count GPUs as logical slots'
        raise UsageError(f"{asked}, but this machine has no GPU", code="no-gpu", where="resources.device", help=help)
    if gpus and gpus > present:
        raise UsageError(f"--gpus {gpus:g}, but this machine has {present}", code="no-gpu", help="ask for fewer")
    return ("cuda", gpus or float(present)) if present else ("cpu", 0.0)


@contextmanager
def driver_lock(folder: Path) -> Iterator[None]:
    """The folder's lock, for one driver at a time; the kernel frees it when the driver dies.

    Raises Conflict when another driver runs, OutOfReach when the folder cannot hold a study.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_network(folder)
        lock = FileLock(folder / "driver.lock", timeout=0)
        lock.acquire()
    except Timeout:
        help = f"nas status {folder.name}   shows it\nnas stop {folder.name}   ends it"
        raise Conflict(f"study '{folder.name}' is being searched by another driver", code="locked", help=help) from None
    except OSError as error:
        help = "set NAS_RUNS to a folder on this machine that may be written"
        raise OutOfReach(f"cannot be written: {error.strerror}", code="disk", where=str(folder), help=help) from error
    try:
        yield
    finally:
        lock.release()


def _search(
    store: Store,
    folder: Path,
    file: StudyFile,
    launch: Launch,
    control: Control,
    device: str,
    gpus: float,
    observer: Observer,
) -> End | None:
    coordinator = Coordinator(
        store,
        file,
        owner=f"{platform.node()}:{os.getpid()}",
        budget=store.attributes()["budget"],
        prefetch=launch.executor == "ray",
        max_fail_rate=launch.max_fail_rate,
        observer=observer,
    )
    factory = partial(TrialRun, file=file, folder=folder.absolute(), device=device)
    try:
        _enqueue(coordinator, file, launch.retry_failed)
        observer(_introduction(Study(folder, store), coordinator))
        if launch.executor == "serial":
            serial.run(coordinator, factory, control)
        elif coordinator.counts.trained < coordinator.budget:
            from nas.search import ray_tune  # two seconds of imports that the serial executor does without

            ray_tune.run(coordinator, factory, control, cpus=launch.cpus, gpus=gpus)
    finally:
        coordinator.close()
    return coordinator.end if control.level() is Level.GO else None


def _introduction(study: Study, coordinator: Coordinator) -> dict[str, Any]:
    """The first event: what the study holds already."""
    record = study.record()
    values = [t.values(record.objectives) for t in record.trials if t.eligible]
    facts = {"name": study.name, "folder": str(study.folder), "budget": coordinator.budget}
    return {"type": "study", **facts, "counts": asdict(coordinator.counts), "values": values}


def _enqueue(coordinator: Coordinator, file: StudyFile, retry_failed: bool) -> None:
    """Baselines that have no row yet, then failed trials if asked for."""
    rows = coordinator.store.rows()
    known = {row.user_attrs["architecture_id"] for row in rows}
    for baseline in file.baselines:
        architecture = baseline.architecture()
        if architecture.id not in known:
            known.add(architecture.id)
            coordinator.enqueue(architecture, baseline=True)
    retried = {row.user_attrs.get("retry_of") for row in rows}
    for row in rows:
        if retry_failed and row.state.name == State.FAIL and row.number not in retried:
            coordinator.enqueue_again(row)


def _open_or_create(folder: Path, file: StudyFile, launch: Launch, task: Task) -> Store:
    url, described = sqlite_url(folder), task.describe()
    new = not (folder / "study.db").exists()
    store = Store.create(url, file.name, file.objective_list()) if new else Store.open(url)
    stored, now = store.attributes(), environment() | {"command": launch.command, "seed": file.search.seed}
    if "settings" in stored:
        _compare(stored, file, launch.source, described, now, len(store.rows()))
    else:
        floors = {split: task.floors(split) for split in ("val", "test")}
        store.set_attribute("data", described | {"floors": floors})
        store.set_attribute("environment", now)
        store.set_attribute("created", time.time())
        store.set_attribute("settings", file.resolved())
    budget = launch.trials or max(file.search.trials, stored.get("budget", 0))
    if budget != stored.get("budget"):
        store.set_attribute("budget", budget)
    try:
        _write_text(folder / "study.toml", file.to_toml())
        write_json(folder / "environment.json", now)
    except OSError as error:
        raise OutOfReach(f"cannot be written: {error.strerror}", code="disk", where=str(folder)) from error
    return store


def _compare(
    stored: Mapping[str, Any],
    file: StudyFile,
    source: str,
    described: Mapping[str, Any],
    now: Mapping[str, Any],
    trials: int,
) -> None:
    """Raises Conflict with the first difference that would make stored and new trials incomparable."""
    help = f"nas search ... --study {file.name}_2   starts a new study"
    for path, old, new in difference(stored["settings"], file.resolved()):
        if path.startswith(FREE_TO_CHANGE):
            continue
        part = path.partition(".")[0]
        what = {"space": "another search space", "objectives": "other objectives"}.get(part, f"another [{part}]")
        raise Conflict(
            f"study '{file.name}' was created with {what}",
            code=f"{part}-changed",
            where=f"{source}  {path}",
            detail=f"stored {old}   now {new}   ({trials} trials remain valid)",
            help=help,
        )
    if stored["data"]["sha256"] != described["sha256"]:
        detail = f"stored sha256 {stored['data']['sha256'][:12]}   now {described['sha256'][:12]}"
        text = f"study '{file.name}' was created with other data"
        raise Conflict(text, code="data-changed", where=f"{source}  task.corpus", detail=detail, help=help)
    used = [o.metric for o in file.objectives] + [c.metric for c in file.constraints]
    timed = [name for name in used if not METRICS[name].exact]
    if timed and hardware_id(stored["environment"]) != hardware_id(now):
        keys = ("cpu", "logical_cores", "gpus")
        detail = "\n".join(f"{key}: stored {stored['environment'][key]}   now {now[key]}" for key in keys)
        text = f"study '{file.name}' measured {timed[0]} on other hardware"
        raise Conflict(text, code="hardware-changed", detail=detail, help=help)


def _measure_front(study: Study, task: Task, device: str, observer: Observer) -> None:
    """Once more, now that nothing trains, until every member of the front has such a measurement."""
    record = study.record()
    if all(METRICS[o.metric].exact for o in record.objectives):
        return
    done = {int(k.partition(":")[2]) for k in study.store.attributes() if k.startswith("remeasured:")}
    lock = DeviceLock(device)
    while left := [trial for trial in pareto.front_of(study.record()) if trial.number not in done]:
        for trial in left:
            with lock.measuring():
                metrics = measure_architecture(trial.model, task, study.file, device)
            study.remeasured(trial.number, metrics)
            done.add(trial.number)
            observer({"type": "remeasured", "trial": trial.number, "metrics": metrics})


def _clean(study: Study) -> None:
    """Keep the weights of the front; drop the rest, and every checkpoint of a finished trial."""
    front = {trial.number for trial in study.front()}
    for trial in study.trials():
        folder = study.trial_folder(trial.number)
        if not folder.is_dir() or trial.state in (State.RUNNING, State.WAITING):
            continue
        for path in folder.iterdir():
            if trial.number not in front or path.name == CHECKPOINT:
                path.unlink()
        if trial.number not in front:
            folder.rmdir()


def _without_gpus(file: StudyFile) -> StudyFile:
    return file.model_copy(update={"resources": file.resources.model_copy(update={"gpus_per_trial": 0.0})})


def _refuse_network(folder: Path) -> None:
    """SQLite's locks do not hold on network file systems."""
    mounts = [p for p in psutil.disk_partitions(all=True) if folder.absolute().is_relative_to(p.mountpoint)]
    kind = max(mounts, key=lambda p: len(p.mountpoint)).fstype if mounts else ""
    if kind in NETWORK_FILE_SYSTEMS:
        help = "set NAS_RUNS to a folder on a disk of this machine"
        raise OutOfReach(f"a study cannot live on a network file system ({kind})", where=str(folder), help=help)


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
