"""Evaluates models in the same way for every task: evaluation mode, metrics by split, scores by example."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext

from torch import nn

from nas.tasks.base import Evaluation, Scores, Split, Turn

ONCE = 65536
"""The default number of tokens to evaluate."""


class Evaluated(ABC):
    """Computes metrics of a model, and the scores that they average."""

    @abstractmethod
    def judge(
        self, model: nn.Module, split: Split, max_tokens: int, device: str, turn: Turn
    ) -> tuple[dict[str, float], Scores]:
        """Computes `loss`, `accuracy` and the task's own metrics of a model in evaluation mode, and any scores."""

    def guesses(self, split: Split) -> Mapping[str, Scores]:
        """Returns the scores of each floor, if there are any."""
        return {}

    def examine(
        self,
        model: nn.Module,
        split: Split = "val",
        max_tokens: int = ONCE,
        device: str = "cpu",
        turn: Turn = nullcontext,
    ) -> Evaluation:
        """Evaluates about `max_tokens` tokens of the split, the same examples at every call.

        Metrics of the test split are named test_loss, test_accuracy and so on. Of the validation split, only val_loss
        and val_accuracy carry its name.
        """
        was_training = model.training
        model.eval()
        metrics, scores = self.judge(model, split, max_tokens, device, turn)
        model.train(was_training)
        shared = ("loss", "accuracy")
        named = {f"{split}_{name}" if name in shared or split == "test" else name: metrics[name] for name in metrics}
        return Evaluation(named, scores)

    def evaluate(
        self,
        model: nn.Module,
        split: Split = "val",
        max_tokens: int = ONCE,
        device: str = "cpu",
        turn: Turn = nullcontext,
    ) -> dict[str, float]:
        """Returns the metrics of `examine` alone."""
        return self.examine(model, split, max_tokens, device, turn).metrics
