"""Reads what NVIDIA's management library counts: energy, and which other processes use the GPU. It may be absent.

Every function answers None or 0 when the library, the driver or the card (older ones, and slices of one) does not
count: a missing figure is never guessed.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch

from nas.measure.hardware import gpu_uuid

try:
    import pynvml
except ImportError:
    pynvml = None

T = TypeVar("T")


def energy_mj(device: torch.device) -> float | None:
    """Returns the millijoules since the driver was loaded; its counter moves every 20 to 100 ms."""
    return _ask(device, lambda gpu: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)))


def foreign_share(device: torch.device, since: float) -> float:
    """Returns the share of the GPU's time that other processes took since that moment (Unix seconds)."""
    samples = _ask(device, lambda gpu: pynvml.nvmlDeviceGetProcessUtilization(gpu, int(since * 1e6)))
    return foreign(((sample.pid, sample.smUtil / 100) for sample in samples or ()), os.getpid())


def foreign(samples: Iterable[tuple[int, float]], own_pid: int) -> float:
    """Sums over the other processes the highest share of each.

    In a container our process has another number outside. Then the busiest process is taken for ours.
    """
    shares: dict[int, float] = {}
    for pid, share in samples:
        shares[pid] = max(share, shares.get(pid, 0.0))
    if shares:
        shares.pop(own_pid if own_pid in shares else max(shares, key=lambda pid: shares[pid]))
    return sum(shares.values())


def _ask(device: torch.device, question: Callable[[Any], T]) -> T | None:
    if pynvml is None:
        return None
    try:
        pynvml.nvmlInit()
        try:
            return question(pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{gpu_uuid(device)}"))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None
