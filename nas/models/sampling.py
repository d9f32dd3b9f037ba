"""Chooses the next token from logits.

Shapes: B batch, V vocabulary.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nas.errors import UsageError

COLDEST, HOTTEST = 0.001, 1000.0
"""The bounds of a temperature: below the first, logits overflow; above the second, all tokens are equally likely."""


@dataclass(frozen=True)
class Sampling:
    """Takes the likeliest token at temperature 0; above 0, draws one from softmax(logits / temperature).

    `top_k` leaves the k likeliest tokens to draw from.
    """

    temperature: float = 0.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        if self.temperature != 0 and not COLDEST <= self.temperature <= HOTTEST:
            text = f"temperature={self.temperature:g} must be 0 (the likeliest token), or from {COLDEST} to {HOTTEST}"
            raise UsageError(text, where="temperature", help="for example 0.8")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"top_k={self.top_k} must be at least 1; leave it out to draw from all tokens")

    def pick(self, logits_BV: Float[Tensor, "B V"], generator: torch.Generator | None) -> Int[Tensor, " B"]:
        if self.temperature == 0:
            return logits_BV.argmax(dim=-1)
        if self.top_k is not None and self.top_k < logits_BV.size(-1):
            least_B1 = logits_BV.topk(self.top_k).values[:, -1:]
            logits_BV = logits_BV.masked_fill(logits_BV < least_B1, -torch.inf)
        chances_BV = torch.softmax(logits_BV / self.temperature, dim=-1)
        return torch.multinomial(chances_BV, 1, generator=generator)[:, 0]
