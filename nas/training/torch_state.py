"""Restores what training and measuring change in torch for the whole process."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def borrowed_torch(threads: int | None = None) -> Iterator[None]:
    """Uses that many threads, and restores the thread count and the random generators afterwards."""
    before = torch.get_num_threads()
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    with torch.random.fork_rng(range(torch.cuda.device_count()) if started else ()):
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            yield
        finally:
            torch.set_num_threads(before)
