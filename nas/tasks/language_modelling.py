"""Predict the next character.

Shapes: N characters of the text, B batch, T context, V vocabulary, W evaluation windows.
"""

import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.errors import DataError
from nas.study_file import TaskSettings
from nas.tasks import data, ngrams
from nas.tasks.base import Split, Turn

EVALUATION_TOKENS_AT_ONCE = 4096


class LanguageModelling:
    """Mean cross-entropy of the next character, in nats: −ln p(x_{t+1} | x_{≤t}), over windows of `context` characters.

    The vocabulary is every character of the whole text, the held-out splits included: nothing is then unknown,
    and the figures compare with those published for TinyShakespeare's 65 symbols. Which characters occur is all
    that training learns of the other splits.
    """

    def __init__(self, settings: TaskSettings) -> None:
        self.corpus = data.load(settings.corpus)
        points_N = np.frombuffer(self.corpus.text.encode("utf-32-le"), dtype=np.uint32)
        distinct_V, tokens_N = np.unique(points_N, return_inverse=True)
        self.symbols = [chr(point) for point in distinct_V]
        self.vocabulary, self.context = len(self.symbols), settings.context
        self.splits = data.splits(len(tokens_N), settings.split, settings.context)
        self.tokens_N = torch.from_numpy(tokens_N)

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
        nats = ngrams.losses(self.tokens_N.numpy(), self.splits["train"], self.splits[split], self.vocabulary)
        return {f"{n}-gram": loss for n, loss in enumerate(nats, start=1)}

    def batch(self, generator: torch.Generator, size: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
        """`size` windows that start anywhere in the train split: (inputs_BT, targets_BT), one character apart."""
        start, end = self.splits["train"]
        starts_B = torch.randint(start, end - self.context, (size,), generator=generator)
        return self._windows(starts_B, device)

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        logits_BTV = model(inputs)
        return F.cross_entropy(logits_BTV.flatten(0, 1), targets.flatten())

    def evaluate(
        self,
        model: nn.Module,
        split: Split = "val",
        max_tokens: int = 65536,
        device: str = "cpu",
        turn: Turn = nullcontext,
    ) -> dict[str, float]:
        """Metrics over non-overlapping windows, evenly spaced over the split, about `max_tokens` characters in all.

        Those of the test split are named test_loss, test_accuracy, test_bits_per_char and test_perplexity.
        """
        starts_W = self._evaluation_starts(split, max_tokens)
        was_training = model.training
        model.eval()
        nats, right = 0.0, 0
        with torch.inference_mode():
            for starts_B in torch.split(starts_W, max(1, EVALUATION_TOKENS_AT_ONCE // self.context)):
                with turn():
                    inputs_BT, targets_BT = self._windows(starts_B, device)
                    logits_MV, targets_M = model(inputs_BT).flatten(0, 1), targets_BT.flatten()
                    nats += F.cross_entropy(logits_MV, targets_M, reduction="sum").item()
                    right += int((logits_MV.argmax(dim=-1) == targets_M).sum())
        model.train(was_training)
        count = len(starts_W) * self.context
        return _metrics(nats / count, right / count, split)

    def encode(self, text: str) -> list[int]:
        return encode(text, self.symbols)

    def decode(self, tokens: list[int]) -> str:
        return "".join(self.symbols[token] for token in tokens)

    def _windows(self, starts_B: Tensor, device: str) -> tuple[Tensor, Tensor]:
        windows = self.tokens_N.unfold(0, self.context + 1, 1)[starts_B].to(device)
        return windows[:, :-1], windows[:, 1:]

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
            raise DataError(
                f"the character {character!r} is not in the vocabulary",
                code="unknown-character",
                where=f"character {offset} of the text",
                help=f"use the {len(symbols)} characters of the corpus: {''.join(symbols)!r}",
            )
    return [numbers[character] for character in text]


def _metrics(loss: float, accuracy: float, split: Split) -> dict[str, float]:
    # exp overflows above 709 nats; a model so lost is told by its loss.
    metrics = {"bits_per_char": loss / math.log(2), "perplexity": math.exp(min(loss, 700.0))}
    if split == "test":
        metrics = {f"test_{name}": value for name, value in metrics.items()}
    return {f"{split}_loss": loss, f"{split}_accuracy": accuracy, **metrics}
