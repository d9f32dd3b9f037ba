"""Tells whether the machine is as fast right now as it can be. A fixed piece of work shows what no load figure does.

A virtual machine's neighbour on the same physical core, a lowered clock or a hot chip slow everything down by half
for a second or so, while every load figure stays at rest. So the same short loop is timed over and over, beside what is
measured, and compared with the best it lately took on this machine: readings taken at a slower pace are not counted.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

LOOP = 1000
TOLERATED = 1.25
"""The pace still counts as full up to this multiple of the best time. Sharing a core gives 1.6 and more."""
REMEMBERED_SECONDS = 600
"""So long after it was last reached, the best time is forgotten: the machine may have become another one."""


class Pace:
    """The machine's pace. All processes that use the same folder share the best time known."""

    def __init__(self, folder: Path) -> None:
        # Interpreters differ in speed, so each has its own figure.
        self._path = folder / f"pace.{sys.implementation.cache_tag}"
        self.best_ns = self._stored()

    def loop_ns(self) -> float:
        """The loop's time now: the shortest of three, so that an interrupt does not count."""
        shortest = min(_loop_ns() for _ in range(3))
        self.best_ns = min(self.best_ns, shortest)
        return shortest

    def full(self, loop_ns: float) -> bool:
        """Tells whether that was the machine's full pace, as far as is known now."""
        return loop_ns <= TOLERATED * self.best_ns

    def remember(self) -> None:
        """Leave the best time to whoever measures next."""
        temporary = self._path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):  # whoever finds no figure takes its own
            temporary.write_text(f"{self.best_ns}\n", encoding="utf-8")
            temporary.replace(self._path)

    def _stored(self) -> float:
        try:
            # A time in the future is one of another clock, which says nothing of the age.
            if 0 <= time.time() - self._path.stat().st_mtime < REMEMBERED_SECONDS:
                return float(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            pass
        return float("inf")


def _loop_ns() -> int:
    start, total = time.perf_counter_ns(), 0
    for i in range(LOOP):
        total += i * i
    return time.perf_counter_ns() - start
