"""Holds what the tasks on one text share: its tokens, and splits by position.

Shapes: N tokens of the text, B batch, T context, V vocabulary, W evaluation windows.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas.data import token_cache
from nas.data.text_census import Progress, silent
from nas.settings.task_settings import TextTask as TextSettings
from nas.tasks import ngrams
from nas.tasks.base import WHOLE, Floors, Split
from nas.tasks.coders import Characters
from nas.tasks.prepared_text import prepare
from nas.tasks.token_task import Examples, TokenTask

WINDOWS_HELD = 32
"""After so many windows of a mapped text, its pages are given back: each has brought up to half a MiB of them."""


class TextTask(TokenTask):
    """loss = mean cross-entropy of the target tokens, in nats, over windows of `context` tokens.

    Tokens are the characters of the whole text, held-out splits included. So nothing is unknown, and figures compare
    with those published for TinyShakespeare's 65 symbols; training learns nothing else of the other splits. Or tokens
    are subwords, learned from the train split. A task may add symbols of its own.
    """

    own_symbols: tuple[str, ...] = ()

    def __init__(self, settings: TextSettings, progress: Progress = silent) -> None:
        self.text, self.context = prepare(settings, self.own_symbols, progress), settings.context
        self.coder, self.tokens_N = self.text.coder, self.text.tokens
        self.spans, self.splits, self.plain = self.text.spans, self.text.splits, self.text.plain
        self._read = 0

    @abstractmethod
    def examples(self, starts_B: Tensor, generator: torch.Generator) -> Examples:
        """Returns what the model reads, and its targets (B, T), from the windows that start there.

        IGNORED targets do not count. Random choices are drawn from the generator.
        """

    def describe(self) -> dict[str, Any]:
        source, census = self.text.source, self.text.census
        several = {"documents": sum(census.documents.values())} if source.documents else {}
        learned = self.text.learned
        partly = {"learned_from": learned} if learned and learned < self.spans["train"][1] else {}
        return {
            "name": source.name,
            "source": source.origin,
            "sha256": census.sha256,
            "characters": sum(census.lengths.values()),
            "vocabulary": self.vocabulary,
            "splits": {name: list(span) for name, span in self.spans.items()},
            "unseen": dict(self.text.unseen),
            **several,
            **partly,
            **({"tokenizer": self.text.tokenizer} if self.text.tokenizer else {}),
        }

    def floors(self, split: Split, max_tokens: int = WHOLE) -> Floors:
        """Interpolated Witten-Bell n-grams of tokens, trained on the train split; always of the whole split, up to the
        bounds of nas.tasks.ngrams."""
        low, high = self.plain
        nats = ngrams.bounded_losses(self.tokens_N, low, self.splits["train"], self.splits[split], high - low)
        told = {f"{n}-gram": {"loss": loss} for n, loss in enumerate(nats, start=1)}
        if isinstance(self.coder, Characters):
            return told
        return {name: m | {"bits_per_char": self.bits_per_char(split, m["loss"])} for name, m in told.items()}

    def bits_per_char(self, split: Split, loss: float) -> float:
        """Converts a loss per token into bits per character, by the split's counts of tokens and characters."""
        tokens, characters = (end - start for start, end in (self.splits[split], self.spans[split]))
        return loss / math.log(2) * tokens / characters

    def training(self, generator: torch.Generator, size: int) -> Examples:
        """Draws windows that start anywhere in the train split."""
        start, end = self.splits["train"]
        return self.examples(torch.randint(start, end - self.context, (size,), generator=generator), generator)

    def evaluation(self, split: Split, max_tokens: int, at_once: int) -> Iterator[Examples]:
        """Yields windows that do not overlap, evenly spaced over the split."""
        generator = torch.Generator().manual_seed(0)
        for starts_B in torch.split(self._evaluation_starts(split, max_tokens), at_once):
            yield self.examples(starts_B, generator)

    def windows(self, starts_B: Tensor, length: int) -> Tensor:
        """So many tokens from each start: (B, length)."""
        places_BL = starts_B.numpy()[:, None] + np.arange(length)
        self._read += len(starts_B)
        if self._read > WINDOWS_HELD:  # each has brought pages of the mapped file into this process
            token_cache.release(self.tokens_N)
            self._read = 0
        return torch.from_numpy(self.tokens_N[places_BL].astype(np.int64))

    def _evaluation_starts(self, split: Split, max_tokens: int) -> Tensor:
        start, end = self.splits[split]
        room = (end - start - 1) // self.context
        wanted = min(room, max(1, max_tokens // self.context))
        return start + torch.arange(wanted) * room // wanted * self.context
