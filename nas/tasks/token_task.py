"""Holds what tasks whose targets are tokens share: the loss, and its evaluation on fixed examples.

Shapes: B batch, T context, V vocabulary.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nas.models import TOKENS, Head
from nas.tasks.base import WHOLE, Floors, Inputs, Scores, Split, Turn
from nas.tasks.coders import Coder
from nas.tasks.cross_entropy import mean_cross_entropy, summed_cross_entropy
from nas.tasks.evaluation import Evaluated

EVALUATION_TOKENS_AT_ONCE, EVALUATION_TOKENS_ON_GPU = 4096, 32768
IGNORED = -100
"""A target that does not count."""

Examples = tuple[Inputs, Tensor]
"""A batch: what the model reads, and its targets (B, T)."""


def on_device(device: str, examples: Examples) -> Examples:
    inputs, targets = examples
    return tuple(_moved(tensor, device) for tensor in inputs), _moved(targets, device)


def _moved(tensor: Tensor, device: str) -> Tensor:
    """Copies a tensor to the device. A GPU fetches it from pinned memory, and this process does not wait."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.startswith("cuda") else tensor.to(device)


def at_once(context: int, device: str) -> int:
    """Returns how many examples are evaluated at once: more on a GPU, where a small batch costs as much as a large."""
    tokens = EVALUATION_TOKENS_AT_ONCE if device == "cpu" else EVALUATION_TOKENS_ON_GPU
    return max(1, tokens // context)


class TokenTask(Evaluated):
    """loss = mean cross-entropy of the target tokens, in nats; IGNORED ones do not count."""

    coder: Coder
    context: int

    @property
    def vocabulary(self) -> int:
        return len(self.coder.symbols)

    @property
    def head(self) -> Head:
        return TOKENS

    @property
    def guessing(self) -> float:
        return math.log(self.vocabulary)

    @property
    def most_loss(self) -> float:
        return self.guessing

    @property
    def typical(self) -> tuple[int, int]:
        return self.context // 2, self.context - self.context // 2

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Describes the data; see `nas.tasks.base.Task`."""

    @abstractmethod
    def floors(self, split: Split, max_tokens: int = WHOLE) -> Floors:
        """Scores baselines without a neural network; see `nas.tasks.base.Task`."""

    @abstractmethod
    def training(self, generator: torch.Generator, size: int) -> Examples:
        """Draws so many examples of the train split with the generator."""

    @abstractmethod
    def evaluation(self, split: Split, max_tokens: int, at_once: int) -> Iterator[Examples]:
        """Yields about `max_tokens` tokens of the split, `at_once` examples a batch, the same at every call."""

    def metrics(self, split: Split, loss: float, accuracy: float, whole: float) -> dict[str, float]:
        """Computes the task's own metrics from the mean loss and the shares of right tokens and right examples."""
        return {}

    def written(
        self, model: nn.Module, split: Split, max_tokens: int, device: str, turn: Turn
    ) -> tuple[dict[str, float], Scores]:
        """Returns metrics of what the model writes by itself, and scores, if any."""
        return {}, {}

    def batch(self, generator: torch.Generator, size: int, device: str = "cpu") -> Examples:
        return on_device(device, self.training(generator, size))

    def largest(self, size: int, device: str = "cpu") -> Examples:
        """Returns any batch, since all examples are equally long."""
        return self.batch(torch.Generator().manual_seed(0), size, device)

    def shown(self, length: int) -> Inputs:
        inputs, _ = next(self.evaluation("val", 1, 1))
        return tuple(tensor[:, :length] for tensor in inputs)

    def loss(self, model: nn.Module, inputs: Inputs, targets: Tensor) -> Tensor:
        return mean_cross_entropy(model(*inputs).flatten(0, 1), targets.flatten(), IGNORED)

    def judge(
        self, model: nn.Module, split: Split, max_tokens: int, device: str, turn: Turn
    ) -> tuple[dict[str, float], Scores]:
        sums, examples = [0.0] * 4, 0
        for batch in self.evaluation(split, max_tokens, at_once(self.context, device)):
            with turn(), torch.inference_mode():
                # One transfer a batch, since each waits for the device.
                found = _sums(model, *on_device(device, batch)).tolist()
            sums = [former + new for former, new in zip(sums, found, strict=True)]
            examples += len(batch[1])
        nats_sum, right, whole, count = sums
        loss, accuracy = nats_sum / count, right / count
        own = self.metrics(split, loss, accuracy, whole / examples)
        written, scores = self.written(model, split, max_tokens, device, turn)
        return {"loss": loss, "accuracy": accuracy, **own, **written}, scores


def _sums(model: nn.Module, inputs: Inputs, targets_BT: Tensor) -> Tensor:
    """Returns sums over a batch: nats, right tokens, examples that are wholly right, and tokens that count.

    The logits are freed here, not first when the next batch has its own.
    """
    logits_BTV = model(*inputs)
    nats = summed_cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), IGNORED)
    counts_BT = targets_BT != IGNORED
    right_BT = (logits_BTV.argmax(dim=-1) == targets_BT) & counts_BT
    whole_B = (right_BT == counts_BT).all(dim=1)
    return torch.stack([each.sum().double() for each in (nats, right_BT, whole_B, counts_BT)])
