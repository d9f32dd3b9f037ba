"""The processes that a library starts for us: kept from signals that are meant for the driver, watched, and ended.

A batch system sends SIGTERM to all processes of a job, `timeout` to the whole process group, a closing terminal sends
SIGHUP to everyone. Only the driver may act on them: it has the trials save first. Processes that are started within
`shielded()` inherit a mask that holds such signals back, and so do the processes that these start.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn, Self

import psutil

from nas.running.stop_control import STOP_SIGNALS

HANGING_THREAD = "nas-waits-for-ray"
"""The name of threads that may hang in a library for ever: a program in which one is left ends by `leave`."""
AUTO_CONNECT = "RAY_ENABLE_AUTO_CONNECT"


@contextmanager
def shielded() -> Iterator[None]:
    """Processes and threads that are started within never get the signals that stop a search.

    A signal that arrives for this thread meanwhile is delivered at the end.
    """
    former = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


class HelperProcesses:
    """All children that were started while it was entered, and theirs."""

    def __init__(self) -> None:
        self._before: set[psutil.Process] = set()
        self._children: dict[psutil.Process, str] = {}

    def __enter__(self) -> Self:
        self._before = set(psutil.Process().children())
        return self

    def __exit__(self, *error: object) -> None:
        started = [child for child in psutil.Process().children() if child not in self._before]
        self._children = {child: _name(child) for child in started}

    def first_dead(self, *names: str) -> str:
        """The first of the processes of these names that has ended; empty while all live."""
        return next((name for child, name in self._children.items() if name in names and not _lives(child)), "")

    def end(self, seconds: float) -> None:
        """Kill them all, and wait at most so long until they are gone."""
        every = list(self._children)
        for child in self._children:
            with suppress(psutil.Error):
                every += child.children(recursive=True)
        for process in every:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(every, timeout=seconds)


def leave(code: int) -> NoReturn:
    """End the program with this exit code, at once where a library's thread hangs and would be waited for."""
    if any(thread.name == HANGING_THREAD for thread in threading.enumerate()):
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


@contextmanager
def no_second_ray() -> Iterator[None]:
    """No call starts a second Ray; not even after the end, while a thread still hangs in the first."""
    ours = AUTO_CONNECT not in os.environ
    os.environ.setdefault(AUTO_CONNECT, "0")
    try:
        yield
    finally:
        if ours and not any(thread.name == HANGING_THREAD for thread in threading.enumerate()):
            del os.environ[AUTO_CONNECT]
