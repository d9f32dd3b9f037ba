"""Checks whether this machine can search, and says how to mend what prevents it."""

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nas.folders import is_there, require_current_folder

LARGE_PACKAGES = ("torch", "ray", "optuna")
LITTLE_MEMORY_GIB, LITTLE_DISK_GIB, NO_DISK_GIB = 4.0, 2.0, 0.1
GIB = 2**30
LOAD_SECONDS = 0.5
"""The seconds for which the machine's load is watched."""


@dataclass(frozen=True)
class Finding:
    """Holds one line of `nas doctor`: what was checked, its result, and what to do about it."""

    name: str
    level: Literal["ok", "warn", "fail"]
    text: str
    fix: str = ""


def doctor() -> list[Finding]:
    """Examines this machine, and returns every finding in the order in which a search needs things."""
    return list(examine())


def examine() -> Iterator[Finding]:
    """Yields every finding, in the order in which a search needs things."""
    require_current_folder()
    yield Finding("python", "ok", platform.python_version())
    packages = [_package(name) for name in LARGE_PACKAGES]
    yield from packages
    if all(finding.level != "fail" for finding in packages):
        yield from _hardware()
        yield _compiler()
        yield _load()
        yield from _runs()
        yield from _data()


def _package(name: str) -> Finding:
    """Checks that a package is installed, in the range that nas requires."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, "fail", "not installed", "pip install nas")
    try:
        wanted = {r.name: r.specifier for r in map(Requirement, requires("nas") or [])}
    except PackageNotFoundError:
        return Finding(name, "warn", f"{found}; nas itself is not installed", "pip install -e .")
    if name in wanted and found not in wanted[name]:
        return Finding(name, "fail", f"{found}, outside {wanted[name]}", f"pip install '{name}{wanted[name]}'")
    return Finding(name, "ok", found)


def _hardware() -> Iterator[Finding]:
    from nas.measure import available_cpus, environment

    machine: dict[str, Any] = environment()
    usable, cores = available_cpus(), machine["logical_cores"]
    share = "" if usable >= cores else f", of which this process may use {usable}"
    yield Finding("cpu", "ok", f"{machine['cpu']}, {cores} logical cores{share}")
    memory = machine["memory_gib"]
    if memory < LITTLE_MEMORY_GIB:
        yield Finding("memory", "warn", f"{memory:g} GiB", "run fewer trials side by side: --cpus 1")
    else:
        yield Finding("memory", "ok", f"{memory:g} GiB")
    gpus = [f"{gpu['name']}, {gpu['memory_gib']:g} GiB" for gpu in machine["gpus"]]
    if not gpus and shutil.which("nvidia-smi"):
        yield Finding("gpu", "warn", "a GPU is present, but torch does not see it", "install the CUDA build of torch")
    else:
        yield Finding("gpu", "ok", "; ".join(gpus) or "none: studies run on the CPU")


def _compiler() -> Finding:
    from nas.training.execution import compiler

    if path := compiler():
        return Finding("compiler", "ok", path)
    return Finding("compiler", "ok", "no C++ compiler: models run as written, and train.compile = true is refused")


def _load() -> Finding:
    """Tells whether other programs use the processor now, so that times would be stored as `contended`."""
    import torch

    from nas.measure.contention import LoadWatch

    with LoadWatch(torch.device("cpu")) as watch:
        time.sleep(LOAD_SECONDS)
    if not watch.contended:
        return Finding("load", "ok", "no other program keeps the processor busy")
    busy = f"other programs keep {watch.foreign_cores:.1f} cores busy"
    judged = "times are marked as contended, and limits on times are judged by the fastest readings"
    fix = "measure on an idle machine; nas resume measures again what was disturbed"
    return Finding("load", "warn", f"{busy}: {judged}", fix)


def _runs() -> Iterator[Finding]:
    """Checks the folder of runs, or the place where it would be made: it must be writable, on a local disk, with
    room.
    """
    from nas.running.placement import network_file_system
    from nas.study.stored_study import runs_folder

    folder = runs_folder()
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(parent))
    fix = "set NAS_RUNS to a folder on a disk of this machine that may be written"
    network = network_file_system(there)
    try:
        with tempfile.TemporaryFile(dir=there):
            writable = True
    except OSError:
        writable = False
    if not writable:
        yield Finding("runs", "fail", f"{folder}: cannot be written", fix)
    elif network:
        yield Finding("runs", "fail", f"{folder}: on a network file system ({network})", fix)
    else:
        yield Finding("runs", "ok", f"{folder}: writable" + ("" if os.path.lexists(folder) else ", not made yet"))
    free = shutil.disk_usage(there).free / GIB
    level: Literal["ok", "warn", "fail"]
    level = "fail" if free < NO_DISK_GIB else "warn" if free < LITTLE_DISK_GIB else "ok"
    yield Finding("disk", level, f"{free:,.1f} GiB free", "" if level == "ok" else "delete studies, or set NAS_RUNS")


def _data() -> Iterator[Finding]:
    """Tells which data sets are on this machine. It downloads nothing."""
    from nas.data import fetch, text_census, text_source
    from nas.data.catalogue import DATASETS
    from nas.errors import DataError

    folder = os.environ.get("NAS_DATA_DIR")
    if folder and not is_there(Path(folder), folder=True):
        yield Finding("NAS_DATA_DIR", "warn", f"{folder}: no such folder", "name an existing folder, or unset it")
    else:
        yield Finding("NAS_DATA_DIR", "ok", folder or "not set")
    census = text_census.take(text_source.find(text_source.PYTHON_DOCS))
    yield Finding("python-docs", "ok", f"{census.lengths['']:,} characters")
    for name, dataset in DATASETS.items():
        if not fetch.present(dataset):
            yield Finding(name, "ok", "not on this machine yet: the first study that uses it downloads it")
            continue
        try:
            fetch.content(dataset)
            yield Finding(name, "ok", dataset.size)
        except DataError as error:
            yield Finding(name, "warn", error.message, error.help)
