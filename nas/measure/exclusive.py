"""Gives a measurement the device for itself: trainings on the same machine pause until the measurement is done.

It is a reader-writer lock with a turnstile, made of two files and flock(2):

    trainer, each step     turnstile shared → room shared → turnstile free → the step → room free
    measurer               turnstile alone → room alone → the measurement → room free → turnstile free

A measurer holds the turnstile while it waits for the running steps to end, so no new step starts and the measurer
always gets its turn. The kernel frees the locks of a process that dies, and nothing has to be cleaned up.

A lock belongs to one thread of one process, and is not entered again while it is held. A process that holds one lock
must not wait for another lock of the same device: it would wait for itself.
"""

import fcntl
import os
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nas.errors import OutOfReach
from nas.measure.hardware import checked_device, gpu_uuid

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.001, 0.05
"""A bounded wait pauses so long between two tries of a lock: too rarely to disturb a measurement."""


TELL_SECONDS = 2.0
"""A wait is reported when it has lasted so long, and again each time."""


class DeviceBusy(Exception):
    """Another measurement has the device."""


class DeviceLock:
    """Locks one device: the machine's CPU, or one GPU (by its UUID, since visible devices are renumbered)."""

    def __init__(self, device: str, folder: Path | None = None, on_wait: Callable[[float], None] | None = None) -> None:
        """`on_wait` is called every other second while a step waits for a measurement, with the moment when the wait
        began.
        """
        folder, name = folder or machine_folder(), _name(device)
        self.name, self.on_wait = name, on_wait
        self._turnstile = _open(self, folder / f"{name}.turnstile")
        self._room = _open(self, folder / f"{name}.room")
        self._held = False

    @contextmanager
    def training_step(self) -> Iterator[float]:
        """Holds the lock around one step of training or evaluation; many steps may hold it at once.

        Yields the seconds waited.
        """
        with self._once():
            waited = self._patiently(self._turnstile)
            try:
                waited += self._patiently(self._room)
            finally:
                fcntl.flock(self._turnstile, fcntl.LOCK_UN)
            try:
                yield waited
            finally:
                fcntl.flock(self._room, fcntl.LOCK_UN)

    @contextmanager
    def measuring(self, patience: float | None = None) -> Iterator[float]:
        """Holds the device alone around a measurement. Yields the seconds that it waited for steps and other
        measurements.

        Raises DeviceBusy when another measurement still has the device after `patience` seconds.
        """
        with self._once():
            waited = _take(self._turnstile, fcntl.LOCK_EX, patience)
            try:
                waited += _take(self._room, fcntl.LOCK_EX)
                try:
                    yield waited
                finally:
                    fcntl.flock(self._room, fcntl.LOCK_UN)
            finally:
                fcntl.flock(self._turnstile, fcntl.LOCK_UN)

    def _patiently(self, descriptor: int) -> float:
        """Takes a lock that a measurement may have, and reports the wait."""
        if self.on_wait is None:
            return _take(descriptor, fcntl.LOCK_SH)
        since, waited = time.time(), 0.0
        while True:
            try:
                return waited + _take(descriptor, fcntl.LOCK_SH, TELL_SECONDS)
            except DeviceBusy:
                waited = time.time() - since
                self.on_wait(since)

    @contextmanager
    def _once(self) -> Iterator[None]:
        """Refuses a second flock on the same file, which would silently convert the first."""
        if self._held:
            raise RuntimeError("this DeviceLock is already held: leave training_step() or measuring() first")
        self._held = True
        try:
            yield
        finally:
            self._held = False


class DeviceLocks:
    """Locks several devices around a step, always in the same order, so that two trainings never wait in a circle."""

    def __init__(self, locks: Sequence[DeviceLock]) -> None:
        self._locks = sorted(locks, key=lambda lock: lock.name)

    @contextmanager
    def training_step(self) -> Iterator[float]:
        """Holds all locks around one step. Yields the seconds waited."""
        with ExitStack() as held:
            yield sum([held.enter_context(lock.training_step()) for lock in self._locks])


def step_lock(first: DeviceLock, devices: Sequence[str]) -> DeviceLock | DeviceLocks:
    """Returns the lock of all devices on which a step runs; `first` is that of the first one."""
    others = [DeviceLock(device, on_wait=first.on_wait) for device in dict.fromkeys(devices[1:]) if device != "cpu"]
    return DeviceLocks([first, *others]) if others else first


def machine_folder() -> Path:
    """Returns the folder that this user's processes on this machine share, with the locks and the machine's known
    pace.
    """
    return Path(tempfile.gettempdir()) / f"nas-locks-{os.getuid()}"


def _name(device: str) -> str:
    place = checked_device(device)
    return "cpu" if place.type == "cpu" else f"cuda-{gpu_uuid(place)}"


def _open(owner: DeviceLock, path: Path) -> int:
    """Opens the lock file; the descriptor is closed when its owner is freed."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        text, help = f"cannot open a lock file: {error.strerror}", "set TMPDIR to a folder that you may write"
        raise OutOfReach(text, where=str(path), help=help) from error
    weakref.finalize(owner, os.close, descriptor)
    return descriptor


def _take(descriptor: int, mode: int, patience: float | None = None) -> float:
    """Takes the lock and returns the seconds waited: 0 when it was free.

    Raises DeviceBusy when the patience is over.
    """
    if _free(descriptor, mode):
        return 0.0
    start, pause = time.monotonic(), FIRST_PAUSE_SECONDS
    if patience is None:
        fcntl.flock(descriptor, mode)
        return time.monotonic() - start
    while not _free(descriptor, mode):
        if time.monotonic() - start > patience:
            raise DeviceBusy
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    return time.monotonic() - start


def _free(descriptor: int, mode: int) -> bool:
    """Takes the lock if it is free now."""
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
