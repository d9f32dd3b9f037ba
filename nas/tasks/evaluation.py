"""Holds what evaluating has in common for every task: the model in evaluation mode, metrics by split, scores by
example."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext

from torch import nn

from nas.tasks.base import Evaluation, Scores, Split, Turn

ONCE = 65536
"""Tokens that are evaluated where nothing else is said."""


class Evaluated(ABC):
    """Metrics of a model, and the scores that they are means of."""

    @abstractmethod
    def judge(
        self, model: nn.Module, split: Split, max_tokens: int, device: str, turn: Turn
    ) -> tuple[dict[str, float], Scores]:
        """`loss`, `accuracy` and the task's own metrics of a model in evaluation mode; and the scores, if there are."""

    def guesses(self, split: Split) -> Mapping[str, Scores]:
        """The scores of each floor, if there are."""
        return {}

    def examine(
        self,
        model: nn.Module,
        split: Split = "val",
        max_tokens: int = ONCE,
        device: str = "cpu",
        turn: Turn = nullcontext,
    ) -> Evaluation:
        """On about `max_tokens` tokens of the split: always the same examples.

        Those of the test split are named test_loss, test_accuracy and so on; of the validation split only val_loss and
        val_accuracy have the split's name.
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
        """The metrics alone."""
        return self.examine(model, split, max_tokens, device, turn).metrics
