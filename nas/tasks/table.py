"""Holds what tasks on rows of a table share: subwords, splits, and batches of texts of similar length.

Shapes: B batch, T tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from nas.data import rows
from nas.data.formats import Row
from nas.data.rows import Column
from nas.settings.task_settings import TableTask as TableSettings
from nas.tasks.base import Split
from nas.tasks.coders import Subwords

PAD = "<pad>"
DRAWN_PER_TAKEN = 8
"""A batch is taken from so many times its size, drawn evenly and sorted by length. So texts of similar length stand
together, and all are equally likely."""

Example = TypeVar("Example")


class TableData:
    """Holds the rows of each split, and subwords learned from the training split's texts."""

    def __init__(
        self,
        settings: TableSettings,
        columns: Sequence[Column],
        key: str,
        texts: Sequence[str],
        own_symbols: Sequence[str] = (),
    ) -> None:
        """Reads the rows, and learns subwords from the columns `texts`. Raises DataError."""
        self.table = rows.load(settings.corpus, columns, dict(settings.columns))
        self.splits = rows.split(self.table, key)
        learned = (self.table.rows[i][column] for column in texts for i in self.splits["train"])
        flat = (text for told in learned for text in ([told] if isinstance(told, str) else told))
        self.subwords = Subwords.learned(flat, settings.subwords, (PAD, *own_symbols))

    def of(self, split: Split) -> list[Row]:
        return [self.table.rows[number] for number in self.splits[split]]

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.table.name,
            "source": self.table.source,
            "sha256": self.table.sha256,
            "vocabulary": len(self.subwords.symbols),
            "splits": {name: len(numbers) for name, numbers in self.splits.items()},
            "left_out": len(self.table.rows) - sum(map(len, self.splits.values())),
        }


def padded(texts: Sequence[Sequence[int]], pad: int = 0) -> tuple[Tensor, Tensor]:
    """Returns tokens (B, T), as long as the longest text, and what is padding (B, T)."""
    tokens_BT = torch.full((len(texts), max(map(len, texts))), pad)
    for row, text in enumerate(texts):
        tokens_BT[row, : len(text)] = torch.tensor(text, dtype=torch.long)
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
