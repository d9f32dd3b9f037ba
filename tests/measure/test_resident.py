"""Tests that freed memory goes back to the system, where the C library can give it back."""

import ctypes
from pathlib import Path

import pytest

from nas.measure.resident import give_back

BLOCK, BLOCKS, PINNED = 100_000, 600, 10
"""Blocks are smaller than those that the allocator gives back by itself."""


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library cannot give memory back")
def test_freed_blocks_between_kept_ones_go_back() -> None:
    blocks: list[bytearray | None] = [bytearray(b"x") * BLOCK for _ in range(BLOCKS)]
    for i in range(BLOCKS):
        if i % PINNED:
            blocks[i] = None
    held = resident_mib()
    give_back()
    freed = BLOCK * (BLOCKS - BLOCKS // PINNED) / 2**20
    assert held - resident_mib() > 0.8 * freed
    assert all(block is None or block == b"x" * BLOCK for block in blocks)
