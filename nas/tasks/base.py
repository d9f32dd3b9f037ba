"""Defines what the training loop asks of a task; each other file here holds one task."""

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
"""The arguments with which a model is called."""
Floors = dict[str, dict[str, float]]
"""Maps a floor's name to its metrics, named without the split: `loss`, `accuracy`."""
Scores = Mapping[str, Sequence[float]]
"""Maps a metric to its value for each example of a split, in the data's order; the metric is their mean."""
WHOLE = 10**9
"""More tokens than any split has."""
Turn = Callable[[], AbstractContextManager[object]]
"""Opened around every evaluation batch, so that a measurement on the same device can go first."""


@dataclass(frozen=True)
class Evaluation:
    """Holds `metrics` (loss, accuracy and the task's own, named after the split) and `scores` (named without it)."""

    metrics: dict[str, float]
    scores: Scores


class Task(Protocol):
    """Provides data, loss and metrics. Equal settings and generators give equal batches, and equal metrics."""

    context: int

    @property
    def coder(self) -> Coder:
        """Returns the coder of texts as tokens; it is saved beside trained weights."""

    @property
    def vocabulary(self) -> int:
        """Counts the symbols."""

    @property
    def head(self) -> Head:
        """Returns the head of the task's models."""

    @property
    def guessing(self) -> float:
        """Returns the loss of guessing evenly."""

    @property
    def most_loss(self) -> float:
        """Returns the validation loss above which training counts as diverged.

        It is infinite for classes: a model that is often right, but confident where it is wrong, may lose more than
        guessing does.
        """

    @property
    def typical(self) -> tuple[int, int]:
        """Returns the tokens read at once, and those then written one by one, in a typical example. Both are timed."""

    def describe(self) -> dict[str, Any]:
        """Describes the data, as JSON: name, source, sha256, characters, vocabulary and splits."""

    def floors(self, split: Split, max_tokens: int = ...) -> Floors:
        """Scores baselines without a neural network, on the examples that `evaluate` takes.

        On one text they are scored on the whole split.
        """

    def batch(self, generator: torch.Generator, size: int, device: str) -> tuple[Inputs, Tensor]:
        """Returns inputs and targets of one training step."""

    def largest(self, size: int, device: str) -> tuple[Inputs, Tensor]:
        """Returns the batch of the longest training examples, which takes most memory."""

    def shown(self, length: int) -> Inputs:
        """Returns the inputs of one validation example, the same at every call, cut to that length."""

    def loss(self, model: nn.Module, inputs: Inputs, targets: Tensor) -> Tensor:
        """Computes the scalar to minimise."""

    def guesses(self, split: Split) -> Mapping[str, Scores]:
        """Returns the scores of each floor, if there are any."""

    def evaluate(
        self,
        model: nn.Module,
        split: Split = "val",
        max_tokens: int = ...,
        device: str = ...,
        turn: Turn = ...,
    ) -> dict[str, float]:
        """Computes metrics on examples of the split that are the same at every call."""

    def examine(
        self,
        model: nn.Module,
        split: Split = "val",
        max_tokens: int = ...,
        device: str = ...,
        turn: Turn = ...,
    ) -> Evaluation:
        """Returns the metrics of `evaluate`, with the scores that they average."""
