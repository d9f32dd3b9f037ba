"""What tasks have in common that ask for the class of a text: the loss, accuracy and macro F1.

Shapes: B batch, T tokens, C classes, N examples.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.models import Head
from nas.tasks.base import Inputs, Split, Turn
from nas.tasks.coders import Coder
from nas.tasks.token_task import EVALUATION_TOKENS_AT_ONCE, on_device

Examples = tuple[Inputs, Tensor]
"""Tokens (B, T) with their padding (B, T), and the number of each text's class (B,)."""


class ClassTask(ABC):
    """−ln p(class | text), in nats."""

    coder: Coder
    context: int
    classes: list[str]

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
        """See `nas.tasks.base.Task`."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """See `nas.tasks.base.Task`."""

    @abstractmethod
    def training(self, generator: torch.Generator, size: int) -> Examples:
        """So many examples of the train split; whatever is drawn is drawn from the generator."""

    @abstractmethod
    def evaluation(self, split: Split, max_tokens: int, at_once: int) -> Iterator[Examples]:
        """Examples of the split, of about `max_tokens` tokens in all: always the same."""

    def batch(self, generator: torch.Generator, size: int, device: str = "cpu") -> Examples:
        return on_device(device, self.training(generator, size))

    def shown(self, length: int) -> Inputs:
        inputs, _ = next(self.evaluation("val", 1, 1))
        return tuple(tensor[:, :length] for tensor in inputs)

    def loss(self, model: nn.Module, inputs: Inputs, targets: Tensor) -> Tensor:
        return F.cross_entropy(model(*inputs), targets)

    def evaluate(
        self,
        model: nn.Module,
        split: Split = "val",
        max_tokens: int = 65536,
        device: str = "cpu",
        turn: Turn = nullcontext,
    ) -> dict[str, float]:
        """The loss, the share of right classes, and the mean of all classes' F1 (of one that never occurs, 0)."""
        from sklearn.metrics import f1_score

        was_training = model.training
        model.eval()
        nats, told_N, true_N = 0.0, [], []
        for batch in self.evaluation(split, max_tokens, max(1, EVALUATION_TOKENS_AT_ONCE // self.context)):
            with turn(), torch.inference_mode():
                inputs, targets_B = on_device(device, batch)
                logits_BC = model(*inputs)
                nats += F.cross_entropy(logits_BC, targets_B, reduction="sum").item()
                told_N += logits_BC.argmax(dim=1).tolist()
                true_N += targets_B.tolist()
        model.train(was_training)
        accuracy = float(np.mean(np.equal(told_N, true_N)))
        f1 = float(f1_score(true_N, told_N, labels=range(len(self.classes)), average="macro", zero_division=0))
        own = "test_macro_f1" if split == "test" else "macro_f1"
        return {f"{split}_loss": nats / len(true_N), f"{split}_accuracy": accuracy, own: f1}
