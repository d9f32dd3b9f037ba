"""Defines what the training loop asks of a task; one file a task beside this one."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from nas.models import Head
from nas.tasks.coders import Coder

Split = Literal["train", "val", "test"]
Inputs = tuple[Tensor, ...]
"""The arguments that a model is called with."""
Floors = dict[str, dict[str, float]]
"""Name → metric, without the split in front of it (`loss`, `accuracy`) → value."""
Scores = Mapping[str, Sequence[float]]
"""Metric → its value for each example of a split, in the data's order; the metric is their mean."""
WHOLE = 10**9
"""Tokens: all of a split."""
Turn = Callable[[], AbstractContextManager[object]]
"""Opened around every evaluation batch, so that whoever measures on the same device can go first."""


@dataclass(frozen=True)
class Evaluation:
    """`metrics`: loss, accuracy and the task's own, named after the split. `scores` have names without it."""

    metrics: dict[str, float]
    scores: Scores


class Task(Protocol):
    """Data, loss and metrics. Equal settings give equal batches, for an equal generator, and equal metrics."""

    context: int

    @property
    def coder(self) -> Coder:
        """Texts as tokens and back; saved beside trained weights."""

    @property
    def vocabulary(self) -> int:
        """Counts the symbols."""

    @property
    def head(self) -> Head:
        """The head that a model of the task ends in."""

    @property
    def guessing(self) -> float:
        """The loss of guessing evenly."""

    @property
    def most_loss(self) -> float:
        """A validation loss above it means that training has blown up. Classes that are told wrong with confidence may
        cost more than guessing, while most are told right: there it is infinite."""

    @property
    def typical(self) -> tuple[int, int]:
        """Tokens that are read at once, and that are then written one by one, in a typical example: what is timed."""

    def describe(self) -> dict[str, Any]:
        """Describes the data, as JSON: name, source, sha256, characters, vocabulary and splits."""

    def floors(self, split: Split, max_tokens: int = ...) -> Floors:
        """Scores what costs no neural network: on the examples of the split that `evaluate` takes, or all, where a text
        is one."""

    def batch(self, generator: torch.Generator, size: int, device: str) -> tuple[Inputs, Tensor]:
        """Inputs and targets of one training step."""

    def largest(self, size: int, device: str) -> tuple[Inputs, Tensor]:
        """The batch of training examples that takes most memory: of the longest."""

    def shown(self, length: int) -> Inputs:
        """Inputs of one validation example, cut to that length: always the same."""

    def loss(self, model: nn.Module, inputs: Inputs, targets: Tensor) -> Tensor:
        """The scalar to make small."""

    def guesses(self, split: Split) -> Mapping[str, Scores]:
        """The scores of each floor, if there are."""

    def evaluate(
        self,
        model: nn.Module,
        split: Split = "val",
        max_tokens: int = ...,
        device: str = ...,
        turn: Turn = ...,
    ) -> dict[str, float]:
        """Metrics on examples of the split that are the same at every call."""

    def examine(
        self,
        model: nn.Module,
        split: Split = "val",
        max_tokens: int = ...,
        device: str = ...,
        turn: Turn = ...,
    ) -> Evaluation:
        """Returns the metrics of `evaluate`, with the scores that they are means of."""
