"""Locks a study's folder: it tells who works there. Reading commands create nothing and disturb no process.

The lock is flock(2) on `driver.lock`. Drivers share it, since leases in the database keep them apart
(nas.study.leases). Drivers of versions before that held it alone: they and ours exclude each other. A reader asks for
it alone for a moment, to see whether anybody has it. The kernel frees the lock of a process that dies. The file's
content is never touched.
"""

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from nas import files
from nas.errors import Conflict, OutOfReach

LOCK = "driver.lock"
LOOKING_SECONDS = 0.5
"""The seconds for which a driver retries: a process that checks whether the study runs holds the lock for less than a
millisecond.
"""

OTHER_READERS_SECONDS = 0.01
"""The seconds for which a reader retries, since another one may be looking."""


@contextmanager
def driver_lock(folder: Path, *, alone: bool = False) -> Iterator[None]:
    """Holds the folder's lock, beside other drivers of the study, or `alone`.

    Raises Conflict when a driver of an earlier version runs (alone: any driver), and OutOfReach when the folder cannot
    hold a study.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        refuse_broken_locks(folder)
        descriptor = os.open(
            files.refuse_links(folder, LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
        )
    except OSError as error:
        help = "set NAS_RUNS to a folder on this machine that may be written"
        raise OutOfReach(
            f"cannot be written: {error.strerror}", code="disk", where=os.fspath(folder), help=help
        ) from error
    try:
        if not _taken(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
            name = folder.name
            by = "" if alone else " by a driver of an earlier version, which shares it with no other"
            text = f"study '{name}' is being searched{by}"
            raise Conflict(text, code="locked", help=f"nas status {name}   shows it\nnas stop {name}   ends it")
        yield
    finally:
        os.close(descriptor)


def is_running(folder: Path) -> bool:
    """Tells whether a driver holds the folder's lock. Needs no right to write."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # no driver has been there, or none that this user may know of
        return False
    try:
        return not _taken(descriptor, fcntl.LOCK_EX, OTHER_READERS_SECONDS)
    except OSError:  # a file system without locks, which no driver accepts
        return False
    finally:
        os.close(descriptor)


@contextmanager
def creation_lock(folder: Path) -> Iterator[None]:
    """Holds the folder while a study is opened or made in it: of drivers that start at once, the second one waits."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def refuse_broken_locks(folder: Path) -> None:
    """Tries the locks of the file system that holds the folder, as two processes would. Raises OutOfReach.

    On network file systems flock(2) and SQLite's byte locks may be missing, or work within one machine only.
    """
    probe = folder / f".{LOCK}.{os.getpid()}.{token_hex(4)}{files.TEMPORARY}"
    fault = ""
    first = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        second = os.open(probe, os.O_RDWR | os.O_CLOEXEC)
        try:
            fault = _fault(first, second)
        finally:
            os.close(second)
    finally:
        os.close(first)
        probe.unlink()
    if fault:
        help = "set NAS_RUNS to a folder on a disk of this machine"
        raise OutOfReach("the locks of this file system do not work", where=str(folder), detail=fault, help=help)


def _fault(first: int, second: int) -> str:
    """Says what is wrong with the locks of a file that is open twice; empty when nothing is."""
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _taken(second, fcntl.LOCK_EX, seconds=0):
            return "flock: two holders at once"
        fcntl.flock(first, fcntl.LOCK_UN)
    except OSError as error:
        return f"flock: {error.strerror}"
    return _byte_lock_fault(first, second)


def _byte_lock_fault(first: int, second: int) -> str:
    """Says what is wrong with the locks on bytes, which SQLite takes.

    Two such locks of one process never exclude each other, so the first is an open-file lock (Linux), which excludes
    both kinds.
    """
    if not hasattr(fcntl, "F_OFD_SETLK"):
        return ""
    whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
    try:
        fcntl.fcntl(first, fcntl.F_OFD_SETLK, whole)
        fcntl.lockf(second, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
    except (BlockingIOError, PermissionError):  # what POSIX lets a lock that is held answer
        return ""
    except OSError as error:
        return f"fcntl: {error.strerror}"
    return "fcntl: two holders at once"


def _taken(descriptor: int, kind: int, seconds: float = LOOKING_SECONDS) -> bool:
    """Tells whether this process now has the lock, shared (LOCK_SH) or alone (LOCK_EX)."""
    last = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= last:
                return False
            time.sleep(0.005)  # for somebody who looks on to be gone
        else:
            return True
