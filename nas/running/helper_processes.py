"""Manages the processes that a library starts for us: it shields them from the driver's signals, watches and ends them.

A batch system sends SIGTERM to all processes of a job, `timeout` to the whole process group, and a closing terminal
sends SIGHUP to all of its processes. Only the driver may act on these signals: it first has the trials save. Processes
that are started within `nas.surroundings.shielded()` inherit a mask that blocks such signals, and so do their children.
"""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, Self

import psutil

HANGING_THREAD = "nas-waits-for-ray"
"""The name of threads that may hang in a library for ever. A program in which such a thread is left ends by `leave`."""
AUTO_CONNECT = "RAY_ENABLE_AUTO_CONNECT"


class HelperProcesses:
    """Holds the processes that a library started while this was entered, and their children.

    Its programs lie in `package`, the library's folder. A program that uses nas may start children of its own
    meanwhile, in another thread; those are left alone.
    """

    def __init__(self, package: Path) -> None:
        self._package = f"{package}{os.sep}"
        self._before: set[psutil.Process] = set()
        self._children: dict[psutil.Process, str] = {}

    def __enter__(self) -> Self:
        self._before = set(psutil.Process().children())
        return self

    def __exit__(self, *error: object) -> None:
        started = [child for child in psutil.Process().children() if child not in self._before]
        self._children = {child: _name(child) for child in started if self._is_theirs(child)}

    def _is_theirs(self, child: psutil.Process) -> bool:
        try:
            return any(part.startswith(self._package) for part in child.cmdline())
        except psutil.Error:
            return False

    def first_dead(self, *names: str) -> str:
        """Returns the first process of these names that has ended; empty while all live."""
        return next((name for child, name in self._children.items() if name in names and not _lives(child)), "")

    def end(self, seconds: float) -> None:
        """Kills all of them, and waits at most so long until they are gone."""
        every = list(self._children)
        for child in self._children:
            with suppress(psutil.Error):
                every += child.children(recursive=True)
        for process in every:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(every, timeout=seconds)


def leave(code: int) -> NoReturn:
    """Ends the program with this exit code, at once where a library's thread hangs that Python would wait for."""
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
    """Makes sure that no call starts a second Ray, even after the end while a thread still hangs in the first."""
    ours = AUTO_CONNECT not in os.environ
    os.environ.setdefault(AUTO_CONNECT, "0")
    try:
        yield
    finally:
        if ours and not any(thread.name == HANGING_THREAD for thread in threading.enumerate()):
            del os.environ[AUTO_CONNECT]
