"""Describes the hardware of a study: enough to tell whether two latencies may be compared, and nothing that identifies
its owner.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from nas.errors import UsageError

PACKAGES = ("nas", "torch", "ray", "optuna")
GIB = 2**30


def environment() -> dict[str, Any]:
    """Describes hardware, system and versions, as plain data for JSON."""
    return {
        "cpu": _cpu(),
        "logical_cores": psutil.cpu_count() or 1,
        "memory_gib": round(psutil.virtual_memory().total / GIB, 1),
        "gpus": _gpus(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "threads": torch.get_num_threads(),
    }


def hardware_id(environment: Mapping[str, Any]) -> str:
    """Makes 12 hex digits from what decides the speed: CPU, cores and GPUs. Versions and memory do not count."""
    parts = {key: environment.get(key) for key in ("cpu", "logical_cores", "gpus")}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def checked_device(name: str) -> torch.device:
    """Returns the torch device of that name. Raises UsageError for one that is unknown or absent."""
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UsageError(f"unknown device '{name}'", code="device", where="device", help="one of cpu, cuda, cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            text = f"device '{name}' is not there: this process sees {count} GPUs"
            raise UsageError(text, code="device", where="device", help="use cpu, or cuda:N below that count")
    return device


def gpu_uuid(device: torch.device) -> str:
    return str(torch.cuda.get_device_properties(device).uuid)


def _cpu() -> str:
    """Returns the processor's name; Linux tells it in /proc/cpuinfo alone."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gpus() -> list[dict[str, Any]]:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = [torch.cuda.get_device_properties(i) for i in range(count)]
    return [{"name": gpu.name, "memory_gib": round(gpu.total_memory / GIB, 1)} for gpu in found]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
