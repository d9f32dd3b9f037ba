"""Counts the CPUs that this process may use: those that it is bound to, limited by its control group's quota."""

import os
from pathlib import Path, PurePosixPath

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def available_cpus(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Counts whole CPUs, at least 1: the smaller of the affinity mask and the quota. Linux tells them in `proc` and
    `cgroups`.

    A quota of 1.5 CPUs counts as 1, since a second trial would have half a CPU at best.
    """
    quota = _quota(proc, cgroups)
    return max(1, min(len(usable_cpus()), int(quota + 1e-9)) if quota is not None else len(usable_cpus()))


def usable_cpus() -> frozenset[int]:
    """Returns the numbers of the CPUs that this process is bound to; all of the machine where there is no such mask."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _quota(proc: Path, cgroups: Path) -> float | None:
    """Returns the CPUs of the strictest control group above this process (version 1 or 2).

    None where there is no limit.
    """
    found = []
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            found += [_quota_v2(folder) for root in (cgroups, cgroups / "unified") for folder in _up(root, path)]
        elif "cpu" in controllers.split(","):
            roots = [cgroups / "cpu", cgroups / controllers, cgroups / "cpu,cpuacct"]
            found += [_quota_v1(folder) for root in roots for folder in _up(root, path)]
    limits = [quota for quota in found if quota is not None]
    return min(limits) if limits else None


def _up(root: Path, path: str) -> list[Path]:
    """Lists the group's folder and those above it.

    In a container the path may be the host's: then only the root exists.
    """
    inner = PurePosixPath(path.lstrip("/"))
    if ".." in inner.parts:  # a group outside what this container sees
        return [root]
    return [root / folder for folder in (inner, *inner.parents)] if inner.parts else [root]


def _quota_v2(folder: Path) -> float | None:
    """Reads the quota from `cpu.max`: "150000 100000", or "max 100000"."""
    quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
    return _ratio(quota, period or "100000")


def _quota_v1(folder: Path) -> float | None:
    """Reads the quota from two files in microseconds; -1 means no quota."""
    return _ratio(_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip())


def _ratio(quota: str, period: str) -> float | None:
    if not quota.isdigit() or not period.isdigit() or not int(quota) or not int(period):
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    """Reads a small file; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
