"""Holds what tasks on rows of a table share: subwords, splits, and batches of texts of similar length.

Shapes: B batch, T tokens.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from nas.data import ragged, row_store, rows, table_source, token_cache
from nas.data.formats import Row
from nas.data.ragged import Ragged
from nas.data.row_store import Chosen, StoredTable
from nas.data.rows import Column, Table
from nas.data.text_census import Progress, silent
from nas.data.token_cache import Integers, TokenWriter
from nas.settings.task_settings import TableTask as TableSettings
from nas.tasks.base import Split
from nas.tasks.coders import AT_ONCE, Subwords, restored
from nas.tasks.prepared_text import LEARNED

PAD = "<pad>"
DRAWN_PER_TAKEN = 8
"""A batch is taken from so many times its size, drawn evenly and sorted by length. So texts of similar length stand
together, and all are equally likely."""
VERSION = 1
"""Changes when equal rows give other tokens."""
ORDER: tuple[Split, ...] = ("train", "val", "test")
"""The splits in the order in which the tokens of their rows are kept."""

Example = TypeVar("Example")


@dataclass(frozen=True)
class Prepared:
    """Holds what is there while a table's tokens are made: rows, the numbers of each split's rows, and subwords."""

    table: Table
    numbers: Mapping[Split, Sequence[int]]
    subwords: Subwords

    def rows(self) -> Iterator[Row]:
        """Yields the rows in the order in which their tokens are kept."""
        for split in ORDER:
            for number in self.numbers[split]:
                yield self.table.rows[number]


More = Callable[[Prepared, TokenWriter], Mapping[str, Any]]
"""Writes what a task keeps beside the tokens, and tells about it in JSON."""


def nothing_more(prepared: Prepared, writer: TokenWriter) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Reading:
    """Says how a task reads its table.

    `key`: equal values of this column stand in one split alone. `learned`: the columns whose texts of the training
    split subwords are learned from. `coded`: the columns whose tokens are kept; of a list of texts, those of the first.
    `more` writes what else the task keeps, under the name `task`.
    """

    task: str
    columns: Sequence[Column]
    key: str
    learned: Sequence[str]
    coded: Sequence[str]
    own_symbols: Sequence[str] = ()
    more: More = nothing_more


class TableData:
    """Holds the rows of each split with their tokens, all of them mapped from the disk, where they are made once."""

    def __init__(self, settings: TableSettings, reading: Reading, progress: Progress = silent) -> None:
        """Reads the rows, and learns subwords. Raises DataError."""
        source = table_source.find(settings.corpus, reading.columns, dict(settings.columns))
        table = self.table = row_store.opened(source, progress)

        def fill(writer: TokenWriter) -> dict[str, Any]:
            return _prepare(table, settings, reading, writer, progress)

        how = [reading.key, *reading.learned, "", *reading.coded, "", PAD, *reading.own_symbols]
        key = {"table": source.key, "version": VERSION, "task": reading.task, "how": how, "subwords": settings.subwords}
        self.entry = token_cache.obtain(key, fill, progress)
        try:
            coder = restored(self.entry.about["coder"])
            counts = [self.entry.about["splits"][split] for split in ORDER]
            self.learned, self.more = self.entry.about["learned"], self.entry.about["more"]
            self._first = dict(zip(ORDER, np.cumsum([0, *counts]).tolist(), strict=False))
            self._count = dict(zip(ORDER, counts, strict=True))
            self.splits = {split: self.kept("numbers", split) for split in ORDER}
        except Exception as error:  # a damaged file fails in ways that nobody can list
            raise token_cache.damaged(self.entry, error) from error
        assert isinstance(coder, Subwords)
        self.subwords = coder

    def of(self, split: Split) -> Sequence[Row]:
        return Chosen(self.table.rows.__getitem__, self.splits[split])

    def tokens(self, column: str, split: Split) -> Ragged:
        """Returns the tokens of a column's texts."""
        return ragged.read(self.entry.arrays, f"{column}_tokens").part(self._first[split], self._count[split])

    def kept(self, name: str, split: Split) -> Integers:
        """Returns what was written as one number for each row."""
        first = self._first[split]
        return self.entry.arrays[name][first : first + self._count[split]]

    def count_tokens(self) -> int:
        return sum(len(values) for name, values in self.entry.arrays.items() if name.endswith("_tokens"))

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.table.name,
            "source": self.table.source,
            "sha256": self.table.sha256,
            "vocabulary": len(self.subwords.symbols),
            "splits": dict(self._count),
            "left_out": len(self.table.rows) - sum(self._count.values()),
            **({"learned_from": self.learned} if self.learned else {}),
        }


def _prepare(
    table: StoredTable, settings: TableSettings, reading: Reading, writer: TokenWriter, progress: Progress
) -> dict[str, Any]:
    """Splits the rows, learns subwords, and writes the tokens. `learned`: the characters learned from, if not all."""
    numbers = rows.split(table, reading.key)
    progress("learning subwords", 0, None)
    learned = _Learned(table, numbers["train"], reading.learned)
    subwords = Subwords.learned(learned.texts(), settings.subwords, (PAD, *reading.own_symbols))
    prepared, kind = Prepared(table, numbers, subwords), token_cache.width(len(subwords.symbols))
    for column in reading.coded:
        ragged.write(writer, f"{column}_tokens", _coded(prepared, column, progress), kind)
    for split in ORDER:
        writer.append("numbers", np.asarray(numbers[split], dtype="<i8"))
    return {
        "name": table.name,
        "sha256": table.sha256,
        "coder": subwords.saved(),
        "splits": {split: len(numbers[split]) for split in ORDER},
        "learned": learned.size if learned.every > 1 else None,
        "more": reading.more(prepared, writer),
    }


class _Learned:
    """Reads the texts that subwords are learned from: of a large table, every how manieth, about LEARNED characters."""

    def __init__(self, table: StoredTable, numbers: Sequence[int], columns: Sequence[str]) -> None:
        self.table, self.numbers, self.columns = table, numbers, columns
        whole = sum(map(len, self._all())) if table.bytes > LEARNED else 0
        self.every, self.size = max(1, -(-whole // LEARNED)), 0

    def texts(self) -> Iterator[str]:
        """Yields the texts, and counts their characters in `size`."""
        for number, text in enumerate(self._all()):
            if number % self.every == 0:
                self.size += len(text)
                yield text

    def _all(self) -> Iterator[str]:
        for column in self.columns:
            for number in self.numbers:
                told = self.table.rows[number][column]
                yield from [told] if isinstance(told, str) else told


def _coded(prepared: Prepared, column: str, progress: Progress) -> Iterator[Sequence[int]]:
    done = 0
    for some in ragged.batches(prepared.rows(), AT_ONCE):
        progress("encoding rows", done, sum(map(len, prepared.numbers.values())))
        done += len(some)
        texts = [row[column] if isinstance(row[column], str) else row[column][0] for row in some]
        yield from prepared.subwords.encode_pieces(texts)


def padded(texts: Sequence[Sequence[int] | Integers], pad: int = 0) -> tuple[Tensor, Tensor]:
    """Returns tokens (B, T), as long as the longest text, and what is padding (B, T)."""
    tokens_BT = torch.full((len(texts), max(map(len, texts))), pad)
    for row, text in enumerate(texts):
        tokens_BT[row, : len(text)] = torch.from_numpy(np.asarray(text, dtype=np.int64))
    lengths_B1 = torch.tensor([[len(text)] for text in texts])
    return tokens_BT, torch.arange(tokens_BT.size(1)) >= lengths_B1


def drawn(lengths: Tensor, generator: torch.Generator, size: int) -> list[int]:
    """Draws the numbers of a batch of examples of similar length."""
    pool = torch.randint(len(lengths), (size * DRAWN_PER_TAKEN,), generator=generator)
    by_length = pool[lengths[pool].sort(stable=True).indices]
    start = int(torch.randint(DRAWN_PER_TAKEN, (1,), generator=generator)) * size
    found: list[int] = by_length[start : start + size].tolist()
    return found


def longest(lengths: Tensor, size: int) -> list[int]:
    """Returns the numbers of the longest examples, some several times where there are too few."""
    found: list[int] = lengths.sort(descending=True, stable=True).indices[torch.arange(size) % len(lengths)].tolist()
    return found


def evenly(lengths: Tensor, max_tokens: int, at_once: int) -> Iterator[list[int]]:
    """Yields numbers of examples, evenly spaced, of about `max_tokens` tokens, in batches of similar length."""
    total, count = int(lengths.sum()), len(lengths)
    wanted = min(count, max(1, count * max_tokens // max(1, total)))
    chosen = torch.arange(wanted) * count // wanted
    by_length = chosen[lengths[chosen].sort(stable=True).indices]
    for batch in torch.split(by_length, at_once):
        yield batch.tolist()
