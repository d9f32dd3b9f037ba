"""Runs parts of a benchmark side by side, in processes that end with their caller."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from typing import TypeVar

from nas.bench.launches import sigterm_raises
from nas.errors import NasError

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(work: Callable[[T], R], tasks: Sequence[T], jobs: int) -> Iterator[tuple[T, R]]:
    """Yields tasks with their results as they end, in at most `jobs` processes. Raises NasError when a process dies.

    When the caller ends, by an exception, Ctrl-C or SIGTERM, the processes end too: they may take minutes, and nobody
    would read their results.
    """
    if not tasks:
        return
    others = set(active_children())
    with (
        sigterm_raises(),
        ProcessPoolExecutor(min(jobs, len(tasks)), get_context("spawn"), initializer=_start_worker) as pool,
    ):
        calls = {pool.submit(work, task): task for task in tasks}
        try:
            for call in as_completed(calls):
                yield calls[call], call.result()
        except BrokenProcessPool as error:
            raise NasError("a process of the benchmark died", help="if memory is short: fewer --jobs") from error
        except BaseException:
            for child in set(active_children()) - others:
                child.terminate()
            raise


def _start_worker() -> None:
    """Ignores Ctrl-C, which the parent handles for the whole group, and ends the worker with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)
