"""Notices other programs at work during a measurement.

The lock pauses our own trainings; this module notices all other load.
"""

import os
import time
from typing import Any, Self

import psutil
import torch

from nas.measure import nvidia, processors

TOLERATED = 0.25
"""Other load up to this share of one core, or of the GPU, does not count as a disturbance."""


class LoadWatch:
    """Watches other load; `contended` is True after leaving when others took more of the device than is tolerated.

    On a GPU the processor only launches kernels, so other load on it counts when it leaves no core free.
    """

    contended = False
    foreign_cores = 0.0
    """The number of cores that other programs kept busy."""
    foreign = 0.0
    """The part of the device that other programs took: cores, or a share of the GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> Self:
        self._start = time.time()
        self._before = _now()
        return self

    def __exit__(self, *error: Any) -> None:
        wall, busy, own = (b - a for a, b in zip(self._before, _now(), strict=True))
        self.foreign = self.foreign_cores = foreign = foreign_cores(wall, busy, own)
        if self._device.type == "cuda":
            crowded, share = (
                foreign > len(processors.usable_cpus()) - 1,
                nvidia.foreign_share(self._device, self._start),
            )
            self.contended = crowded or share > TOLERATED
            self.foreign = foreign if crowded else share
        else:
            self.contended = foreign > TOLERATED


def foreign_cores(wall_s: float, busy_s: float, own_s: float) -> float:
    """Returns how many cores other programs kept busy: all busy time less our own, over the wall-clock time.

    The kernel counts busy time in ticks (10 ms as a rule), so an excess of two ticks is ignored.
    """
    tick = 1 / os.sysconf("SC_CLK_TCK")
    return max(0.0, busy_s - own_s - 2 * tick) / max(wall_s, tick)


def _now() -> tuple[float, float, float]:
    """Returns the seconds so far: wall clock, busy time of the CPUs that we may use (including time that a hypervisor
    steals), our own.
    """
    usable = processors.usable_cpus()
    every = [times for number, times in enumerate(psutil.cpu_times(percpu=True)) if number in usable]
    # Guests are counted within `user` and `nice`; waiting for a disk leaves the processor free.
    fields = ("user", "nice", "system", "irq", "softirq", "steal")
    busy = sum(getattr(times, name, 0.0) for times in every for name in fields)
    return time.perf_counter(), busy, time.process_time()
