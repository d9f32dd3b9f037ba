"""What the tasks on one text have in common: characters as tokens, splits by position, losses and their evaluation.

Shapes: N characters of the text, B batch, T context, V vocabulary, W evaluation windows, M = B·T.
"""

from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.data import text as corpora
from nas.errors import DataError
from nas.study_file import TaskSettings
from nas.tasks import ngrams
from nas.tasks.base import Inputs, Split, Turn

EVALUATION_TOKENS_AT_ONCE = 4096
IGNORED = -100
"""A target that does not count."""


class TextTask(ABC):
    """Mean cross-entropy of the target tokens, in nats, over windows of `context` characters.

    The vocabulary is every character of the whole text, the held-out splits included: nothing is then unknown,
    and the figures compare with those published for TinyShakespeare's 65 symbols. Which characters occur is all
    that training learns of the other splits. A task may add symbols of its own.
    """

    own_symbols: tuple[str, ...] = ()

    def __init__(self, settings: TaskSettings) -> None:
        self.corpus = corpora.load(settings.corpus)
        points_N = np.frombuffer(self.corpus.text.encode("utf-32-le"), dtype=np.uint32)
        distinct_V, tokens_N = np.unique(points_N, return_inverse=True)
        self.characters = len(distinct_V)
        self.symbols = [*(chr(point) for point in distinct_V), *self.own_symbols]
        self.vocabulary, self.context = len(self.symbols), settings.context
        self.splits = corpora.splits(len(tokens_N), settings.split, settings.context)
        self.tokens_N = torch.from_numpy(tokens_N)

    @abstractmethod
    def examples(self, starts_B: Tensor, generator: torch.Generator) -> tuple[Inputs, Tensor]:
        """What the model reads, and its targets (B, T), from the windows that start there; IGNORED ones do not count.

        Whatever is drawn is drawn from the generator.
        """

    def metrics(self, loss: float, accuracy: float, whole: float) -> dict[str, float]:
        """The task's own metrics, from the mean loss, and the shares of tokens and of windows that are right."""
        return {}

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.corpus.name,
            "source": self.corpus.source,
            "sha256": self.corpus.sha256,
            "characters": len(self.tokens_N),
            "vocabulary": self.vocabulary,
            "splits": {name: list(span) for name, span in self.splits.items()},
        }

    def floors(self, split: Split) -> dict[str, float]:
        """Nats per character of interpolated Witten-Bell n-grams, trained on the train split."""
        nats = ngrams.losses(self.tokens_N.numpy(), self.splits["train"], self.splits[split], self.characters)
        return {f"{n}-gram": loss for n, loss in enumerate(nats, start=1)}

    def batch(self, generator: torch.Generator, size: int, device: str = "cpu") -> tuple[Inputs, Tensor]:
        """`size` windows that start anywhere in the train split."""
        start, end = self.splits["train"]
        starts_B = torch.randint(start, end - self.context, (size,), generator=generator)
        return _on(device, self.examples(starts_B, generator))

    def shown(self, length: int) -> Inputs:
        inputs, _ = self.examples(self._evaluation_starts("val", 1), torch.Generator().manual_seed(0))
        return tuple(tensor[:, :length] for tensor in inputs)

    def loss(self, model: nn.Module, inputs: Inputs, targets: Tensor) -> Tensor:
        logits_BTV = model(*inputs)
        return F.cross_entropy(logits_BTV.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)

    def evaluate(
        self,
        model: nn.Module,
        split: Split = "val",
        max_tokens: int = 65536,
        device: str = "cpu",
        turn: Turn = nullcontext,
    ) -> dict[str, float]:
        """Metrics over non-overlapping windows, evenly spaced over the split, about `max_tokens` characters in all.

        Those of the test split are named test_loss, test_accuracy and so on.
        """
        starts_W, generator = self._evaluation_starts(split, max_tokens), torch.Generator().manual_seed(0)
        was_training = model.training
        model.eval()
        nats, right, whole, count = 0.0, 0, 0, 0
        with torch.inference_mode():
            for starts_B in torch.split(starts_W, max(1, EVALUATION_TOKENS_AT_ONCE // self.context)):
                with turn():
                    inputs, targets_BT = _on(device, self.examples(starts_B, generator))
                    logits_BTV = model(*inputs)
                    nats += F.cross_entropy(
                        logits_BTV.flatten(0, 1), targets_BT.flatten(), ignore_index=IGNORED, reduction="sum"
                    ).item()
                    counts_BT = targets_BT != IGNORED
                    right_BT = (logits_BTV.argmax(dim=-1) == targets_BT) & counts_BT
                    right += int(right_BT.sum())
                    whole += int((right_BT == counts_BT).all(dim=1).sum())
                    count += int(counts_BT.sum())
        model.train(was_training)
        loss, accuracy = nats / count, right / count
        own = self.metrics(loss, accuracy, whole / len(starts_W))
        named = {f"test_{name}": value for name, value in own.items()} if split == "test" else own
        return {f"{split}_loss": loss, f"{split}_accuracy": accuracy, **named}

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


def _on(device: str, example: tuple[Inputs, Tensor]) -> tuple[Inputs, Tensor]:
    inputs, targets = example
    return tuple(tensor.to(device) for tensor in inputs), targets.to(device)
