"""Trainings of a benchmark side by side, each in a process of its own that ends with whoever asked for it."""

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import TypeVar

from nas.bench.launches import sigterm_raises
from nas.errors import NasError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Lead:
    """What a training asks before every step; it is sent to its process."""

    go: Path

    def gone(self) -> bool:
        """Nobody waits for the result any more."""
        return not self.go.exists()


def side_by_side(work: Callable[[T, Lead], R], tasks: Sequence[T], jobs: int) -> Iterator[tuple[T, R]]:
    """`work` of each task, as they end, in at most `jobs` processes. Raises NasError when one of them dies.

    When the caller goes, by an exception, Ctrl-C or SIGTERM, the trainings still on are given up.
    """
    if not tasks:
        return
    with (
        tempfile.TemporaryDirectory(prefix="nas-bench-") as name,
        sigterm_raises(),
        ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_prepare) as pool,
    ):
        lead = Lead(Path(name) / "go")
        lead.go.touch()
        try:
            calls = {pool.submit(work, task, lead): task for task in tasks}
            for call in as_completed(calls):
                yield calls[call], call.result()
        except BrokenProcessPool as error:
            raise NasError("a process that trained died", help="is there memory for fewer --jobs?") from error
        finally:
            lead.go.unlink()
            pool.shutdown(wait=False, cancel_futures=True)


def _prepare() -> None:
    """Ctrl-C is told by the process that was asked; when that one is killed, this one ends at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
