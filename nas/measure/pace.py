"""Tells whether the machine runs at its full speed now. It times a fixed piece of work, since no load figure shows
this.

A virtual machine's neighbour on the same physical core, a lowered clock or a hot chip slows everything to half speed
for a second or so, while every load figure stays low. So the same short loop is timed again and again beside the
measurement, and compared with its recent best on this machine. Readings taken at a slower pace do not count.
"""

import math
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from nas import files

LOOP = 1000
LEAST_NS = LOOP / 10
"""No machine does the loop in less. A best time below this was never measured, and none would ever reach it."""
TOLERATED = 1.25
"""The pace still counts as full up to this multiple of the best time. Sharing a core gives 1.6 and more."""
REMEMBERED_SECONDS = 600
"""The seconds after which a best time that was not reached again is forgotten: the machine may have changed."""


class Pace:
    """Knows the machine's pace. All processes that use the same folder share the best known time."""

    def __init__(self, folder: Path) -> None:
        # Interpreters differ in speed, so each has its own figure.
        self._path = folder / f"pace.{sys.implementation.cache_tag}"
        self.best_ns = self._stored()

    def loop_ns(self) -> float:
        """Returns the loop's time now: the shortest of three, so that an interrupt does not count."""
        shortest = min(_loop_ns() for _ in range(3))
        self.best_ns = min(self.best_ns, shortest)
        return shortest

    def full(self, loop_ns: float) -> bool:
        """Tells whether that was the machine's full pace, as far as is known now."""
        return loop_ns <= TOLERATED * self.best_ns

    def remember(self) -> None:
        """Stores the best time for later measurements."""
        temporary = self._path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):  # a process that finds no figure uses its own
            temporary.write_text(f"{self.best_ns}\n", encoding="utf-8")
            temporary.replace(self._path)

    def _stored(self) -> float:
        """Reads the best time that others left, or infinity where there is none that can be believed."""
        try:
            # A time in the future is one of another clock, which says nothing of the age.
            if 0 <= time.time() - self._path.stat().st_mtime < REMEMBERED_SECONDS:
                stored = float(files.read_bytes(self._path, most=100))
                return stored if LEAST_NS <= stored < math.inf else math.inf
        except (OSError, ValueError):
            pass
        return math.inf


def _loop_ns() -> int:
    start, total = time.perf_counter_ns(), 0
    for i in range(LOOP):
        total += i * i
    return time.perf_counter_ns() - start
