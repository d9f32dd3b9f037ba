"""Measures energy where the hardware counts it and lets us read it: a GPU through NVML, a CPU package through RAPL."""

from collections.abc import Callable
from pathlib import Path

import torch

from nas.measure import nvidia

POWERCAP = Path("/sys/class/powercap")


def energy_mj(run: Callable[[], object], device: torch.device) -> float | None:
    """Returns the millijoules that the device drew while run() ran, its idle draw included; None where nothing counts
    them.
    """
    if device.type == "cuda":
        before = nvidia.energy_mj(device)
        if before is None:
            return None
        run()
        after = nvidia.energy_mj(device)
        return None if after is None else after - before
    return package_energy_mj(run)


def is_counted(device: torch.device) -> bool:
    """Tells whether this machine counts the energy of the device, and lets us read it."""
    return nvidia.energy_mj(device) is not None if device.type == "cuda" else bool(_counters(POWERCAP))


def package_energy_mj(run: Callable[[], object], powercap: Path = POWERCAP) -> float | None:
    """Sums the RAPL counters of the CPU packages. None without a counter, or without the right to read it."""
    before = _counters(powercap)
    if not before:
        return None
    run()
    after = _counters(powercap)
    if after.keys() != before.keys():
        return None
    # A counter that reached its range starts again at 0.
    spent = [(now - before[package][0]) % size for package, (now, size) in after.items()]
    return sum(spent) / 1000


def _counters(powercap: Path) -> dict[str, tuple[int, int]]:
    """Reads microjoules and the counter's range, by package.

    `intel-rapl:0` is one (AMD's too); `intel-rapl:0:0` is its part.
    """
    found: dict[str, tuple[int, int]] = {}
    try:
        for domain in sorted(powercap.glob("intel-rapl:*")):
            if domain.name.count(":") == 1 and (domain / "name").read_text().startswith("package"):
                count, largest = ((domain / name).read_text() for name in ("energy_uj", "max_energy_range_uj"))
                found[domain.name] = int(count), int(largest) + 1
    except OSError:
        return {}
    return found
