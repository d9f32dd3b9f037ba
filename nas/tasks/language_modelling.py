"""Predicts the next token.

Shapes: B batch, T context.
"""

import math

import torch
from torch import Tensor

from nas.tasks.base import Inputs, Split
from nas.tasks.text import TextTask


class LanguageModelling(TextTask):
    """loss = −ln p(x_{t+1} | x_{≤t}), over windows of `context` tokens."""

    def examples(self, starts_B: Tensor, generator: torch.Generator) -> tuple[Inputs, Tensor]:
        windows = self.windows(starts_B, self.context + 1)
        return (windows[:, :-1],), windows[:, 1:]

    def metrics(self, split: Split, loss: float, accuracy: float, whole: float) -> dict[str, float]:
        # exp overflows above 709 nats; such a model is known by its loss.
        return {"bits_per_char": self.bits_per_char(split, loss), "perplexity": math.exp(min(loss, 700.0))}
