"""Holds what the tasks on one text share: its tokens, and splits by position.

Shapes: N tokens of the text, B batch, T context, V vocabulary, W evaluation windows.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.data import text as corpora
from nas.settings.task_settings import TextTask as TextSettings
from nas.tasks import ngrams
from nas.tasks.base import WHOLE, Floors, Split
from nas.tasks.coders import Characters, Coder, Subwords
from nas.tasks.token_task import Examples, TokenTask


class TextTask(TokenTask):
    """loss = mean cross-entropy of the target tokens, in nats, over windows of `context` tokens.

    Tokens are the characters of the whole text, held-out splits included. So nothing is unknown, and figures compare
    with those published for TinyShakespeare's 65 symbols; training learns nothing else of the other splits. Or tokens
    are subwords, learned from the train split. A task may add symbols of its own.
    """

    own_symbols: tuple[str, ...] = ()

    def __init__(self, settings: TextSettings) -> None:
        self.corpus, self.context = corpora.load(settings.corpus), settings.context
        text = self.corpus.text
        self.spans = corpora.splits(len(text), settings.split, settings.context)
        self.coder: Coder
        if settings.subwords:
            self.coder, tokens_N, self.splits = self._subwords(settings.subwords)
            self.plain = (len(self.own_symbols), len(self.coder.symbols))
        else:
            distinct_V, tokens_N = np.unique(
                np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32), return_inverse=True
            )
            self.coder = Characters([*(chr(point) for point in distinct_V), *self.own_symbols])
            self.splits, self.plain = self.spans, (0, len(distinct_V))
        self.tokens_N = torch.from_numpy(tokens_N)

    @abstractmethod
    def examples(self, starts_B: Tensor, generator: torch.Generator) -> Examples:
        """Returns what the model reads, and its targets (B, T), from the windows that start there.

        IGNORED targets do not count. Random choices are drawn from the generator.
        """

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.corpus.name,
            "source": self.corpus.source,
            "sha256": self.corpus.sha256,
            "characters": len(self.corpus.text),
            "vocabulary": self.vocabulary,
            "splits": {name: list(span) for name, span in self.spans.items()},
            "unseen": {name: self._unseen(name) for name in ("val", "test")},
        }

    def _unseen(self, split: Split) -> int:
        """Counts the tokens of the split that never occur in the train split, as where a text changes its alphabet."""
        shown = torch.zeros(self.vocabulary, dtype=torch.bool)
        shown[self.tokens_N[slice(*self.splits["train"])]] = True
        return int((~shown[self.tokens_N[slice(*self.splits[split])]]).sum())

    def floors(self, split: Split, max_tokens: int = WHOLE) -> Floors:
        """Scores interpolated Witten-Bell n-grams of tokens, trained on the train split, on the whole split."""
        low, high = self.plain
        nats = ngrams.losses(self.tokens_N.numpy() - low, self.splits["train"], self.splits[split], high - low)
        told = {f"{n}-gram": {"loss": loss} for n, loss in enumerate(nats, start=1)}
        if self.splits is self.spans:
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
        """Returns `length` tokens from each start: (B, length)."""
        return self.tokens_N.unfold(0, length, 1)[starts_B]

    def _subwords(self, size: int) -> tuple[Subwords, NDArray[np.int64], corpora.Splits]:
        """Encodes each split's text by itself, so that no subword stands in two splits."""
        text, spans = self.corpus.text, self.spans
        coder = Subwords.learned([text[slice(*spans["train"])]], size, self.own_symbols)
        parts = sorted(set(spans.values()))
        tokens = [coder.encode(text[slice(*part)]) for part in parts]
        ends = np.cumsum([len(part) for part in tokens]).tolist()
        places = dict(zip(parts, zip([0, *ends[:-1]], ends, strict=True), strict=True))
        splits = {name: places[span] for name, span in spans.items()}
        corpora.check_length(splits, self.context, "subwords")
        return coder, np.concatenate(tokens), splits

    def _evaluation_starts(self, split: Split, max_tokens: int) -> Tensor:
        start, end = self.splits[split]
        room = (end - start - 1) // self.context
        wanted = min(room, max(1, max_tokens // self.context))
        return start + torch.arange(wanted) * room // wanted * self.context
