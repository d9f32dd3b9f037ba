"""Makes temporary folders that are deleted even if their process is killed: by the next process that makes some.

All temporary folders of a process lie in one of its own, `nas-temporary-NONCE`, with a file that it keeps locked. The
kernel frees the lock of a process that dies, so a folder whose lock can be taken belongs to nobody any more.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

PREFIX, LOCK = "nas-temporary-", "lock"


class TemporaryRoot:
    """Holds the temporary folders of one process, in a new folder that is deleted when the process ends."""

    def __init__(self) -> None:
        self.path, self.process = Path(tempfile.mkdtemp(prefix=PREFIX)), os.getpid()
        unlocked = self.path / f"{LOCK}.new"
        self._lock = os.open(unlocked, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unlocked.rename(self.path / LOCK)  # whoever finds this name finds it locked
        weakref.finalize(self, _delete, self.path, self.process)

    def folder(self, prefix: str) -> Path:
        """Makes a new empty folder in it."""
        return Path(tempfile.mkdtemp(prefix=prefix, dir=self.path))


_root: list[TemporaryRoot] = []
"""The root of this process, once it has made a folder."""


def make(prefix: str) -> Path:
    """Makes a temporary folder of this process, and deletes those of processes that have died."""
    if not _root or _root[0].process != os.getpid() or not _root[0].path.is_dir():
        _root[:] = [TemporaryRoot()]
        sweep()
    return _root[0].folder(prefix)


def sweep() -> int:
    """Deletes the temporary folders of processes of this user that have died. Returns how many."""
    count = 0
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another process sweeps too
            count += _is_left(path) and _delete(path, os.getpid())
    return count


def _is_left(path: Path) -> bool:
    """Tells whether that is a folder of ours whose process has died."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return False
    descriptor = os.open(path / LOCK, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _delete(path: Path, process: int) -> bool:
    """Deletes a folder with its content, and follows no link. A copy of the process (fork) leaves its parent's."""
    if process != os.getpid():
        return False
    shutil.rmtree(path, ignore_errors=True)
    return True
