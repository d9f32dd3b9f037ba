"""Permissions hold in a test, also where the tests run as the superuser."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

POWERS = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: to write, read and enter whatever its mode says."""
HEADER = (ctypes.c_uint32 * 2)(0x20080522, 0)
"""The version of the call, and this thread."""


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Lets modes of files bind this thread, and threads that it starts. Linux gives the superuser each power apart."""
    if os.geteuid() != 0 or sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    former = (ctypes.c_uint32 * 6)()
    assert libc.capget(HEADER, former) == 0
    fewer = (ctypes.c_uint32 * 6)(*former)
    fewer[0] &= ~POWERS
    assert libc.capset(HEADER, fewer) == 0
    try:
        yield
    finally:
        assert libc.capset(HEADER, former) == 0
