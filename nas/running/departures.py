"""Lets trials leave a machine that is about to be taken away: they save at the next step and go on elsewhere.

SLURM, Kubernetes and spot markets announce this by SIGTERM to the processes of a machine, or have Ray drain its node.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Collection
from types import FrameType

PAUSE_SECONDS = 60.0
"""A node of which a worker was told to end gets no trials for so long; by then it is gone, or it stays after all."""


class Departure:
    """Takes the SIGTERM of a worker, which runs one trial after another. While one runs, it is first to save.

    A worker without a trial ends at once, and so does one that is told for the second time.
    """

    def __init__(self) -> None:
        self.asked = False
        """True once the trial that runs is to save and leave."""
        self._busy = False
        self._former: object = None

    def listen(self) -> None:
        """Takes the signal from now on. Python allows that in the main thread alone; elsewhere nothing changes."""
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGTERM, self._handle)
            # The worker of a node that a shielded process started has it blocked.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))

    def begin(self) -> None:
        """Takes in that a trial begins."""
        self.asked, self._busy = False, True

    def end(self) -> None:
        """Takes in that the trial has ended."""
        self._busy = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._busy and not self.asked:
            self.asked = True
        elif callable(self._former):
            self._former(number, frame)
        else:
            sys.exit(128 + number)


class LeavingNodes:
    """Knows which nodes of a cluster are about to end: those that Ray drains, and those whose workers got SIGTERM."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.draining = frozenset[str]()
        self._clock, self._until = clock, dict[str, float]()

    def drained(self, nodes: Collection[str]) -> list[str]:
        """Takes in the ids of all nodes that are being drained now. Returns those that were not before."""
        new, self.draining = sorted(set(nodes) - self.draining), frozenset(nodes)
        return new

    def told(self, node: str) -> bool:
        """Takes in that a worker of the node was told to end. Returns whether that is news."""
        new, self._until[node] = node not in self, self._clock() + PAUSE_SECONDS
        return new

    def __contains__(self, node: str) -> bool:
        return node in self.draining or self._until.get(node, 0.0) > self._clock()
