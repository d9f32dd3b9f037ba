"""Locks a study's folder: only one driver at a time. Reading commands create nothing and disturb no process.

The lock is flock(2) on `driver.lock`. The driver holds it alone, and a reader takes it shared for a moment. The kernel
frees the lock of a process that dies. The file's content is never touched.
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


@contextmanager
def driver_lock(folder: Path) -> Iterator[None]:
    """Holds the folder's lock.

    Raises Conflict when another driver runs, and OutOfReach when the folder cannot hold a study.
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
        if not _taken(descriptor):
            name = folder.name
            help = f"nas status {name}   shows it\nnas stop {name}   ends it"
            raise Conflict(f"study '{name}' is being searched by another driver", code="locked", help=help)
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
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks, which no driver accepts
        return False
    finally:
        os.close(descriptor)
    return False


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
        if _taken(second, seconds=0):
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


def _taken(descriptor: int, seconds: float = LOOKING_SECONDS) -> bool:
    """Tells whether this process now has the lock alone."""
    last = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= last:
                return False
            time.sleep(0.02)  # for somebody who looks on to be gone
        else:
            return True
