"""Holds sequences of different lengths, one behind the other in one array, such as the tokens of many rows."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from nas.data import token_cache
from nas.data.token_cache import Integers, TokenWriter

READ_AT_ONCE = 1024
"""After so many sequences of a mapped array, its pages are given back."""
WRITTEN_AT_ONCE = 4096


class Ragged(Sequence[Integers]):
    """Sequence n is `values[ends[first + n - 1] : ends[first + n]]`, for n < size.

    `values` and `ends` may be mapped from a file. Each sequence is returned as a copy.
    """

    def __init__(self, values: Integers, ends: Integers, first: int = 0, size: int | None = None) -> None:
        # Plain views of mapped arrays: reading from a memmap itself takes several times as long.
        self.values, self.ends, self.first = np.asarray(values), np.asarray(ends), first
        self.size = len(ends) - first if size is None else size
        self._read = 0

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, number: int) -> Integers: ...
    @overload
    def __getitem__(self, number: slice) -> "Sequence[Integers]": ...
    def __getitem__(self, number: int | slice) -> Integers | Sequence[Integers]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(self.size))]
        if not -self.size <= number < self.size:
            raise IndexError(number)
        start, end = self.span(number % self.size)
        self._read += 1
        if self._read > READ_AT_ONCE:
            token_cache.release(self.values)
            self._read = 0
        return np.array(self.values[start:end])

    def span(self, number: int) -> tuple[int, int]:
        """Returns [start, end) of a sequence in `values`."""
        at = self.first + number
        return (int(self.ends[at - 1]) if at else 0), int(self.ends[at])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Returns the length of each sequence."""
        last = self.first + self.size
        return np.diff(self.ends[self.first : last], prepend=self.ends[self.first - 1] if self.first else 0)

    def part(self, first: int, size: int) -> "Ragged":
        """Returns `size` sequences, from number `first` on."""
        return Ragged(self.values, self.ends, self.first + first, size)

    def beside(self, values: Integers) -> "Ragged":
        """Returns the sequences of other values that have the same ends."""
        return Ragged(values, self.ends, self.first, self.size)


def write(writer: TokenWriter, name: str, sequences: Iterable[Sequence[int] | Integers], kind: np.dtype[Any]) -> None:
    """Writes sequences as the arrays `name` and `name_ends`, from which `read` makes a Ragged."""
    end, held, ends = 0, list[Integers](), list[int]()

    def put() -> None:
        writer.append(name, np.concatenate([np.empty(0, kind), *held]))
        writer.append(f"{name}_ends", np.asarray(ends, dtype="<i8"))
        held.clear()
        ends.clear()

    for sequence in sequences:
        held.append(np.asarray(sequence, dtype=kind))
        end += len(sequence)
        ends.append(end)
        if len(held) >= WRITTEN_AT_ONCE:
            put()
    put()


def read(arrays: Any, name: str) -> Ragged:
    """Returns what `write` wrote. Raises KeyError."""
    return Ragged(arrays[name], arrays[f"{name}_ends"])


def batches(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yields lists of at most `size` values."""
    held = list[Any]()
    for value in values:
        held.append(value)
        if len(held) >= size:
            yield held
            held = []
    if held:
        yield held
