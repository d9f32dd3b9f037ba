"""Gives memory that is free back to the system: what an allocator keeps for later counts for this process."""

import ctypes
from functools import cache
from typing import Any


def give_back() -> None:
    """Returns the free memory of the C library's allocator to the system, where that library can (glibc).

    The allocator keeps freed blocks of up to 32 MiB, which is right between two steps. After a measurement, or before
    another model is trained, it is some hundred MiB for nothing. Takes milliseconds.
    """
    if trim := _trim():
        trim(0)


@cache
def _trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
