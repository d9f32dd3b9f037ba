"""Holds signals back until work is saved, then passes them on to the host program."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class HeldSignals:
    """Signals held back. `number` is the signal that arrived, or 0. A second one acts as usual."""

    def __init__(self) -> None:
        self.number = 0
        # Python allows handlers in the main thread alone; a handler that was not set from Python cannot be put back.
        mine = threading.current_thread() is threading.main_thread()
        former = {number: signal.getsignal(number) for number in (NUMBERS if mine else ())}
        self._former = {n: handler for n, handler in former.items() if handler not in (None, signal.SIG_IGN)}

    def hold(self) -> None:
        for number in self._former:
            signal.signal(number, self._note)

    def release(self) -> None:
        """Restores the former handlers, and raises the signal that arrived."""
        for number, handler in self._former.items():
            signal.signal(number, handler)
        if self.number:
            signal.raise_signal(self.number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        signal.signal(number, self._former[signal.Signals(number)])


@contextmanager
def held_signals() -> Iterator[HeldSignals]:
    """Holds SIGINT, SIGTERM and SIGHUP back while the block runs; ignored ones stay ignored."""
    held = HeldSignals()
    held.hold()
    try:
        yield held
    finally:
        held.release()
