"""Holds what tasks that ask for the class of a text share: the loss, accuracy and macro F1.

Shapes: B batch, T tokens, C classes, N examples.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.models import Head
from nas.tasks import table
from nas.tasks.base import WHOLE, Floors, Inputs, Scores, Split, Turn
from nas.tasks.coders import Coder
from nas.tasks.evaluation import Evaluated
from nas.tasks.token_task import at_once, on_device

Examples = tuple[Inputs, Tensor]
"""Tokens (B, T) with their padding (B, T), and the number of each text's class (B,)."""


class ClassTask(Evaluated):
    """loss = −ln p(class | text), in nats."""

    coder: Coder
    context: int
    classes: list[str]
    kept: ClassVar[Split] = "train"
    """The split from which `largest` is taken, where training examples are new in every batch."""

    @property
    def vocabulary(self) -> int:
        return len(self.coder.symbols)

    @property
    def head(self) -> Head:
        return Head("classes", tuple(self.classes))

    @property
    def guessing(self) -> float:
        return math.log(len(self.classes))

    @property
    def most_loss(self) -> float:
        return math.inf

    @property
    @abstractmethod
    def typical(self) -> tuple[int, int]:
        """Returns the tokens of a typical example; see `nas.tasks.base.Task`."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Describes the data; see `nas.tasks.base.Task`."""

    @abstractmethod
    def training(self, generator: torch.Generator, size: int) -> Examples:
        """Draws so many examples of the train split with the generator."""

    @abstractmethod
    def held(self, split: Split, numbers: list[int]) -> Examples:
        """Returns the examples of the split with these numbers."""

    @abstractmethod
    def lengths(self, split: Split) -> Tensor:
        """Counts the tokens of each example of the split (N,)."""

    @abstractmethod
    def true(self, split: Split) -> list[int]:
        """Returns the number of each example's class."""

    @abstractmethod
    def guessed(self, split: Split) -> dict[str, list[int]]:
        """Returns the guesses of floors: name → the class number that it guesses for each example."""

    def evaluation(self, split: Split, max_tokens: int, at_once: int) -> Iterator[tuple[list[int], Examples]]:
        """Yields numbers and examples of the split, of about `max_tokens` tokens in all, the same at every call."""
        for numbers in table.evenly(self.lengths(split), max_tokens, at_once):
            yield numbers, self.held(split, numbers)

    def batch(self, generator: torch.Generator, size: int, device: str = "cpu") -> Examples:
        return on_device(device, self.training(generator, size))

    def largest(self, size: int, device: str = "cpu") -> Examples:
        return on_device(device, self.held(self.kept, table.longest(self.lengths(self.kept), size)))

    def shown(self, length: int) -> Inputs:
        inputs, _ = self.held("val", [0])
        return tuple(tensor[:, :length] for tensor in inputs)

    def loss(self, model: nn.Module, inputs: Inputs, targets: Tensor) -> Tensor:
        return F.cross_entropy(model(*inputs), targets)

    def judge(
        self, model: nn.Module, split: Split, max_tokens: int, device: str, turn: Turn
    ) -> tuple[dict[str, float], Scores]:
        """Computes the loss, the share of right classes, and the mean F1 of all classes, 0 for an absent class."""
        nats, told, true = 0.0, dict[int, int](), dict[int, int]()
        for numbers, examples in self.evaluation(split, max_tokens, at_once(self.context, device)):
            with turn(), torch.inference_mode():
                inputs, targets_B = on_device(device, examples)
                logits_BC = model(*inputs)
                nats += F.cross_entropy(logits_BC, targets_B, reduction="sum").item()
                told |= zip(numbers, logits_BC.argmax(dim=1).tolist(), strict=True)
                true |= zip(numbers, targets_B.tolist(), strict=True)
        told_N, true_N = [told[number] for number in sorted(told)], [true[number] for number in sorted(true)]
        return {"loss": nats / len(true_N), **self._metrics(told_N, true_N)}, _right(told_N, true_N)

    def floors(self, split: Split, max_tokens: int = WHOLE) -> Floors:
        numbers = sorted(chain.from_iterable(table.evenly(self.lengths(split), max_tokens, 1)))
        true_N, guessed = self.true(split), self.guessed(split)
        true = [true_N[number] for number in numbers]
        return {name: self._metrics([told[n] for n in numbers], true) for name, told in guessed.items()}

    def guesses(self, split: Split) -> dict[str, Scores]:
        true_N = self.true(split)
        return {name: _right(told_N, true_N) for name, told_N in self.guessed(split).items()}

    def _metrics(self, told_N: list[int], true_N: list[int]) -> dict[str, float]:
        from sklearn.metrics import f1_score

        f1 = f1_score(true_N, told_N, labels=range(len(self.classes)), average="macro", zero_division=0)
        return {"accuracy": float(np.mean(np.equal(told_N, true_N))), "macro_f1": float(f1)}


def _right(told_N: list[int], true_N: list[int]) -> Scores:
    return {"accuracy": [float(told == true) for told, true in zip(told_N, true_N, strict=True)]}
