"""What the tasks on one text have in common: characters as tokens, and splits by position.

Shapes: N characters of the text, B batch, T context, V vocabulary, W evaluation windows.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas.data import text as corpora
from nas.errors import DataError
from nas.task_settings import TextTask as TextSettings
from nas.tasks import ngrams
from nas.tasks.base import Floors, Split
from nas.tasks.token_task import Examples, TokenTask


class TextTask(TokenTask):
    """Mean cross-entropy of the target tokens, in nats, over windows of `context` characters.

    The vocabulary is every character of the whole text, the held-out splits included: nothing is then unknown,
    and the figures compare with those published for TinyShakespeare's 65 symbols. Which characters occur is all
    that training learns of the other splits. A task may add symbols of its own.
    """

    own_symbols: tuple[str, ...] = ()

    def __init__(self, settings: TextSettings) -> None:
        self.corpus = corpora.load(settings.corpus)
        points_N = np.frombuffer(self.corpus.text.encode("utf-32-le"), dtype=np.uint32)
        distinct_V, tokens_N = np.unique(points_N, return_inverse=True)
        self.characters = len(distinct_V)
        self.symbols = [*(chr(point) for point in distinct_V), *self.own_symbols]
        self.context = settings.context
        self.splits = corpora.splits(len(tokens_N), settings.split, settings.context)
        self.tokens_N = torch.from_numpy(tokens_N)

    @abstractmethod
    def examples(self, starts_B: Tensor, generator: torch.Generator) -> Examples:
        """What the model reads, and its targets (B, T), from the windows that start there; IGNORED ones do not count.

        Whatever is drawn is drawn from the generator.
        """

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.corpus.name,
            "source": self.corpus.source,
            "sha256": self.corpus.sha256,
            "characters": len(self.tokens_N),
            "vocabulary": self.vocabulary,
            "splits": {name: list(span) for name, span in self.splits.items()},
        }

    def floors(self, split: Split) -> Floors:
        """Nats per character of interpolated Witten-Bell n-grams, trained on the train split."""
        nats = ngrams.losses(self.tokens_N.numpy(), self.splits["train"], self.splits[split], self.characters)
        return {f"{n}-gram": {"loss": loss} for n, loss in enumerate(nats, start=1)}

    def training(self, generator: torch.Generator, size: int) -> Examples:
        """Windows that start anywhere in the train split."""
        start, end = self.splits["train"]
        return self.examples(torch.randint(start, end - self.context, (size,), generator=generator), generator)

    def evaluation(self, split: Split, max_tokens: int, at_once: int) -> Iterator[Examples]:
        """Non-overlapping windows, evenly spaced over the split."""
        generator = torch.Generator().manual_seed(0)
        for starts_B in torch.split(self._evaluation_starts(split, max_tokens), at_once):
            yield self.examples(starts_B, generator)

    def encode(self, text: str) -> list[int]:
        return encode(text, self.symbols)

    def decode(self, tokens: list[int]) -> str:
        return "".join(self.symbols[token] for token in tokens)

    def windows(self, starts_B: Tensor, length: int) -> Tensor:
        """So many characters from each start: (B, length)."""
        return self.tokens_N.unfold(0, length, 1)[starts_B]

    def _evaluation_starts(self, split: Split, max_tokens: int) -> Tensor:
        start, end = self.splits[split]
        room = (end - start - 1) // self.context
        wanted = min(room, max(1, max_tokens // self.context))
        return start + torch.arange(wanted) * room // wanted * self.context


def encode(text: str, symbols: list[str]) -> list[int]:
    """Token numbers of the text. Raises DataError with the first character that has none."""
    numbers = {symbol: number for number, symbol in enumerate(symbols)}
    for offset, character in enumerate(text):
        if character not in numbers:
            known = "".join(symbol for symbol in symbols if len(symbol) == 1)
            raise DataError(
                f"the character {character!r} is not in the vocabulary",
                code="unknown-character",
                where=f"character {offset} of the text",
                help=f"use the {len(known)} characters of the corpus: {known!r}",
            )
    return [numbers[character] for character in text]
