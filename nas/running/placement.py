"""Works out what a launch may use: the device, how many trials side by side, and a disk that SQLite can trust."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch

from nas.errors import OutOfReach, UsageError
from nas.measure import available_cpus, environment, hardware_id
from nas.running.measurable import require_measurable
from nas.settings.study_file import StudyFile
from nas.training.execution import require_compiler

NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "lustre", "gpfs", "ceph", "afs")


def resolve_device(file: StudyFile, gpus: float | None) -> tuple[str, float]:
    """Returns "cpu" or "cuda", and how many GPUs Ray counts. With `device = "cpu"`, requested GPUs are logical slots.

    Raises UsageError when GPUs are requested and the machine has none.
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


def slots_of(cpus: float, gpus: float, cpus_per_trial: float, gpus_per_trial: float) -> int:
    """Counts the trials that run side by side. A fraction of a GPU never spans two of them."""
    by_cpu = int(cpus / cpus_per_trial + 1e-9)
    if not gpus_per_trial:
        return by_cpu
    by_gpu = int(gpus) * int(1 / gpus_per_trial + 1e-9) if gpus_per_trial <= 1 else int(gpus // gpus_per_trial)
    return min(by_cpu, by_gpu)


def rank_devices(file: StudyFile, device: str) -> tuple[str, ...]:
    """Returns the device of each process that trains one trial together: one for each whole GPU, or as many as the
    study file says.

    A device that is named with its number is used alone. Raises UsageError when the processes have fewer CPUs, or
    other GPUs, than they need, and when a batch has fewer examples than there are processes.
    """
    resources = file.resources
    gpus = int(resources.gpus_per_trial) if device == "cuda" else 0
    count = resources.processes_per_trial or max(1, gpus)
    if count == 1 or device not in ("cpu", "cuda"):
        return (device,)
    if device == "cuda" and count != gpus:
        raise _processes(f"{resources.gpus_per_trial:g} GPUs", "leave it out: each whole GPU gets a process")
    if device == "cpu" and count > resources.cpus_per_trial:
        help = f"set resources.cpus_per_trial = {count}, or fewer processes"
        raise _processes(f"{resources.cpus_per_trial:g} CPUs", help)
    if count > file.train.batch:
        raise _processes(f"{file.train.batch} examples a step", "raise train.batch, or use fewer processes")
    return ("cpu",) * count if device == "cpu" else tuple(f"cuda:{rank}" for rank in range(count))


def threads_of(file: StudyFile, device: str) -> int:
    """Returns the threads with which each process of a trial trains."""
    return max(1, int(file.resources.cpus_per_trial) // len(rank_devices(file, device)))


def _processes(having: str, help: str) -> UsageError:
    text = f"the processes of a trial do not share out {having}"
    return UsageError(text, code="processes", where="resources.processes_per_trial", help=help)


class SharedNodes(Protocol):
    """Is what an executor asks about a cluster's nodes; nas.running.ray_cluster has it."""

    environment: Mapping[str, Any]
    """The description of the hardware on which trials are measured."""
    changes: list[dict[str, Any]]
    """Events about nodes that nobody has been told yet."""
    mine: Any
    """Its claim, by whose name workers find the actor that tells whether to stop."""

    def watched(self) -> AbstractContextManager[None]: ...
    def free(self, used: Mapping[str, int]) -> str | None: ...
    def hardware(self, node: str) -> str: ...
    def is_gone(self, node: str, since: float) -> bool | None: ...
    def has_left(self, node: str) -> bool: ...
    def departs(self, node: str) -> None: ...
    def fault(self) -> str: ...
    def stop_workers(self) -> None: ...


@dataclass(frozen=True)
class Placement:
    """Says where trials run: on which device, and how many side by side on how many CPUs and (counted) GPUs.

    Without a cluster, they run on this machine. On a cluster, the figures are those at the start.
    """

    device: str
    cpus: float
    gpus: float
    slots: int
    cluster: SharedNodes | None = None

    def fitted(self, file: StudyFile) -> StudyFile:
        """Returns the file as it is run here: trials take no GPUs where none are counted."""
        if self.gpus:
            return file
        return file.model_copy(update={"resources": file.resources.model_copy(update={"gpus_per_trial": 0.0})})

    def measures_here(self) -> bool:
        """Tells whether this machine has the hardware on which the trials are measured."""
        return self.cluster is None or hardware_id(self.cluster.environment) == hardware_id(environment())


def place(file: StudyFile, cpus: float | None = None, gpus: float | None = None) -> Placement:
    """Places a study on this machine. `cpus` and `gpus` default to all that this process may use.

    Raises UsageError when GPUs are requested and there are none, when not even one trial fits, or when something that
    decides about trials cannot be measured here.
    """
    device, counted = resolve_device(file, gpus)
    share = file.resources.gpus_per_trial if counted else 0.0
    cores = cpus or float(available_cpus())
    if not file.trial:
        rank_devices(file, device)
        require_compiler(file.train, device)
    slots = slots_of(cores, counted, file.resources.cpus_per_trial, share)
    if slots < 1:
        raise UsageError(
            "not even one trial fits the resources",
            code="no-slot",
            where="resources",
            detail=f"there are {cores:g} CPUs and {counted:g} GPUs; "
            f"a trial takes {file.resources.cpus_per_trial:g} and {share:g}",
            help="lower resources.cpus_per_trial or resources.gpus_per_trial",
        )
    require_measurable(file, device)
    return Placement(device, cores, counted, slots)


def network_file_system(folder: Path) -> str:
    """Returns the kind of network file system that holds the folder; empty where it is on a disk of this machine.

    Links are followed. Of several mounts at one point the last counts, since it covers the others.
    """
    place, kind, longest = folder.resolve(), "", 0
    for disk in psutil.disk_partitions(all=True):
        if place.is_relative_to(disk.mountpoint) and len(disk.mountpoint) >= longest:
            kind, longest = disk.fstype if _is_remote(disk) else "", len(disk.mountpoint)
    return kind


def _is_remote(disk: Any) -> bool:
    """Tells whether a mount is remote: by its kind, or by a device that names another machine (host:/path,
    //host/share).
    """
    device = str(getattr(disk, "device", ""))
    return disk.fstype in NETWORK_FILE_SYSTEMS or device.startswith("//") or ":/" in device


def refuse_network(folder: Path) -> None:
    """Raises OutOfReach for a folder on a network, since SQLite's locks do not work between machines."""
    if kind := network_file_system(folder):
        help = "set NAS_RUNS to a folder on a disk of this machine"
        raise OutOfReach(f"a study cannot live on a network file system ({kind})", where=str(folder), help=help)
