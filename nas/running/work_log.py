"""Stores the time during which a driver worked, so that a pause between two launches does not count as search time."""

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from nas.errors import OutOfReach
from nas.study.checked import WORKED
from nas.study.store import Store

BEAT_SECONDS = 10.0
"""The most seconds of its working time that a killed launch loses."""


class WorkLog:
    """Stores one launch as an attribute of the study, [start, last seen] in Unix seconds, written now and then."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._key = f"{WORKED}{uuid.uuid4().hex[:12]}"
        self._start = self._written = clock()
        self._turn, self._ended = threading.Lock(), False
        self._write(self._start)

    def beat(self) -> None:
        """Records that the driver is alive. Any thread may call it, as often as it likes."""
        now = self._clock()
        if now - self._written >= BEAT_SECONDS and self._turn.acquire(blocking=False):
            try:
                self._write(now)
            finally:
                self._turn.release()

    def close(self) -> None:
        """Records that the driver ends."""
        with self._turn:
            self._write(self._clock())

    def end(self) -> None:
        """Records that the search ends here, whatever the driver does then."""
        self.close()
        self._ended = True

    def _write(self, now: float) -> None:
        if self._ended:
            return
        self._written = now
        with suppress(OutOfReach):  # the next result that is written tells of a database that does not answer
            self._store.set_attribute(self._key, [self._start, now])
