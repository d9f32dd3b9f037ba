"""Keeps the checked rows of a table on disk, so that a table of any length takes little memory."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np

from nas.data import ragged, token_cache
from nas.data.formats import Row
from nas.data.ragged import Ragged
from nas.data.rows import Table
from nas.data.table_source import TableSource
from nas.data.text_census import Progress, silent
from nas.data.token_cache import Integers, TokenWriter

Value = TypeVar("Value")
BYTES = np.dtype("|u1")


@dataclass(frozen=True)
class StoredTable(Table):
    """Reads each row from the disk when it is asked for. `bytes`: of all rows, at least as many as characters."""

    bytes: int


class Chosen(Sequence[Value]):
    """Computes `value(number)` of each number when it is asked for."""

    def __init__(self, value: Callable[[int], Value], numbers: Sequence[int] | Integers) -> None:
        self.value, self.numbers = value, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, number: int) -> Value: ...
    @overload
    def __getitem__(self, number: slice) -> "Chosen[Value]": ...
    def __getitem__(self, number: int | slice) -> "Value | Chosen[Value]":
        if isinstance(number, slice):
            return Chosen(self.value, self.numbers[number])
        return self.value(int(self.numbers[number]))


def opened(source: TableSource, progress: Progress = silent) -> StoredTable:
    """Opens the rows of a table, which are read, checked and kept first where they are not yet. Raises DataError."""

    def fill(writer: TokenWriter) -> dict[str, Any]:
        def lines() -> Any:
            for number, placed in enumerate(source.rows()):
                if number % ragged.WRITTEN_AT_ONCE == 0:
                    progress("reading rows", number, None)
                yield np.frombuffer(json.dumps(placed).encode(), BYTES)

        ragged.write(writer, "rows", lines(), BYTES)
        return {"name": source.name, "sha256": source.sha256}

    arrays = token_cache.obtain({"rows": source.key}, fill, progress).arrays
    kept = ragged.read(arrays, "rows")
    rows: Sequence[Row] = Chosen(lambda number: _stored(kept, number)[1], range(len(kept)))
    places = Chosen(lambda number: str(_stored(kept, number)[0]), range(len(kept)))
    return StoredTable(source.name, source.origin, source.sha256, rows, places, len(kept.values))


def _stored(kept: Ragged, number: int) -> Any:
    return json.loads(kept[number].tobytes().decode())
