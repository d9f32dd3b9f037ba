"""Tells a running search to stop: signals, `nas stop` and the time budget all end here.

    GO      hand out trials
    FINISH  running trials finish (first Ctrl-C, `nas stop`)
    NOW     running trials save their state and stop (second Ctrl-C, SIGTERM, SIGHUP, `nas stop --now`, the end of
            --time)
    a third Ctrl-C kills the driver at once; its rows are put back by the next one

NOW reaches the driver's trials in other processes as a file in the study's folder, which they look for before every
step.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from types import FrameType

from nas import files
from nas.surroundings import STOP_SIGNALS

NOW_FILE, FINISH_FILE = "stop-now", "stop"
ONE_REQUEST_SECONDS = 2.0
"""SIGTERM and SIGHUP within this time of each other are one request: `timeout` signals its child and then the child's
whole group, and service managers send one after the other."""


class Level(IntEnum):
    GO = 0
    FINISH = 1
    NOW = 2


def told_to_stop(folder: Path, driver: str = "") -> bool:
    """Tells whether trials of the study in this folder are to save and stop; with `driver`, those of that driver."""
    return files.is_mark(folder / _mark(driver))


def _mark(driver: str) -> str:
    """Returns the name of the file that tells a driver's trials to stop; without a driver, those of all."""
    return f"{NOW_FILE}.{driver}" if driver else NOW_FILE


def request_stop(folder: Path, now: bool) -> None:
    """Leaves a request in the folder. The study's drivers find it, on any machine that shares the folder."""
    files.leave_mark(folder / (NOW_FILE if now else FINISH_FILE))


def own_signals() -> tuple[signal.Signals, ...]:
    """Returns the signals that stop a search. An ignored SIGHUP stays ignored: `nohup` asks for that."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return tuple(number for number in STOP_SIGNALS if not (ignored and number == signal.SIGHUP))


class StopControl:
    """Keeps the stop state of one launch. `seconds` is the time budget. `on_change` is called with each new level.

    `hosted` means that the search runs within another program. There the first Ctrl-C asks for NOW, and the host
    program handles a second one. `driver` is this driver's id, `requested` what others ask of it in the database, and
    `alone` tells whether no other driver works on the study.
    """

    def __init__(
        self,
        folder: Path,
        seconds: float | None = None,
        on_change: Callable[[Level], None] = lambda level: None,
        *,
        hosted: bool = False,
        driver: str = "",
        requested: Callable[[], Level] = lambda: Level.GO,
        alone: Callable[[], bool] = lambda: True,
    ) -> None:
        self.folder, self.on_change, self.hosted, self.driver = folder, on_change, hosted, driver
        self._requested, self._alone = requested, alone
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.signal: int | None = None
        """The signal that ended the search, if one did. The exit code is 128 + this number."""
        self.on_look: Callable[[], None] = lambda: None
        """Called whenever the level is read."""
        self._asked: float | None = None
        self._handling = False
        self._level = Level.GO
        self._drop_marks()

    def level(self) -> Level:
        """Returns the current level.

        It looks for requests and the deadline each time, and is read all the time while a search runs.
        """
        self.on_look()
        if self._level < Level.NOW and (told_to_stop(self.folder) or self._time_is_up()):
            self.raise_to(Level.NOW)
        elif self._level < Level.FINISH and files.is_mark(self.folder / FINISH_FILE):
            self.raise_to(Level.FINISH)
        self.raise_to(self._requested())
        return self._level

    def time_left(self) -> float | None:
        """Returns the seconds that are left of the time budget; None without one."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    def raise_to(self, level: Level) -> None:
        if level > self._level:
            self._level = level
            if level is Level.NOW:
                with suppress(OSError):  # on a full disk, trials in other processes stop at their next rung instead
                    files.leave_mark(self.folder / _mark(self.driver))
            self.on_change(level)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Handles the signals that stop a search while it runs, and restores the former handlers afterwards.

        Python allows handlers in the main thread alone. In another thread, the host program keeps its handlers.
        """
        self._handling = threading.current_thread() is threading.main_thread()
        numbers = own_signals() if self._handling else ()
        self._former = {number: signal.getsignal(number) for number in numbers}
        self.install_handlers()
        try:
            yield
        finally:
            self._give_back()
            self._drop_marks()

    def install_handlers(self) -> None:
        """Installs the handlers, within `signals()` and again when Ray has started: Ray's own handler for SIGTERM
        aborts.
        """
        if self._handling:
            for number in own_signals():
                signal.signal(number, self._handle)

    def _drop_marks(self) -> None:
        """Takes this driver's mark away, and the requests to all drivers where no other one is left to see them."""
        shared = (NOW_FILE, FINISH_FILE) if self._alone() else ()
        for name in (_mark(self.driver), *shared):
            files.drop_mark(self.folder / name)

    def _give_back(self) -> None:
        """Restores the former handlers."""
        self._handling = False
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number != signal.SIGINT:
            repeated = self._asked is not None and now - self._asked < ONE_REQUEST_SECONDS
            self._asked = now
            if repeated:
                return
        if self._level is Level.NOW and self.hosted:
            self._give_back()
            signal.raise_signal(number)
            return
        if self._level is Level.NOW:
            os._exit(128 + number)
        self.signal = number
        at_once = self.hosted or number != signal.SIGINT
        self.raise_to(Level.NOW if at_once else Level(self._level + 1))

    def _time_is_up(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline
