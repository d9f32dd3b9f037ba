"""Parts of a benchmark side by side, each in a process of its own that ends with whoever asked for it."""

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
    """`work` of each task, as they end, in at most `jobs` processes. Raises NasError when one of them dies.

    When the caller goes, by an exception, Ctrl-C or SIGTERM, the processes are ended: what still runs may take
    minutes, and nobody will read it.
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
            raise NasError("a process of the benchmark died", help="is there memory for fewer --jobs?") from error
        except BaseException:
            for child in set(active_children()) - others:
                child.terminate()
            raise


def _start_worker() -> None:
    """Ctrl-C reaches the whole group: the parent alone says what it means. A worker never outlives its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)
