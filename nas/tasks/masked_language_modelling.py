"""Fills in hidden characters.

Shapes: B batch, T context.
"""

import math

import torch
from torch import Tensor

from nas.tasks.base import Inputs, Split
from nas.tasks.text import TextTask
from nas.tasks.token_task import IGNORED

CHOSEN, MASKED, REPLACED = 0.15, 0.8, 0.1
"""The share of all characters to predict; of these, the shares that are masked, and replaced by another character."""


class MaskedLanguageModelling(TextTask):
    """loss = −ln p(x_t | window, x_t hidden), over 15 % of the characters (Devlin et al. 2019, arXiv:1810.04805).

    Of these characters 80 % are shown as the mask, 10 % as a random character and 10 % unchanged. Evaluation hides the
    same ones at every call. Its floors are those of n-grams, which see the true characters to the left.
    """

    own_symbols = ("<mask>",)

    def examples(self, starts_B: Tensor, generator: torch.Generator) -> tuple[Inputs, Tensor]:
        true_BT = self.windows(starts_B, self.context)
        chosen_BT = torch.rand(true_BT.shape, generator=generator) < CHOSEN
        # Every window gets something to predict.
        chosen_BT[:, 0] |= ~chosen_BT.any(dim=1)
        fate_BT = torch.rand(true_BT.shape, generator=generator)
        random_BT = torch.randint(*self.plain, true_BT.shape, generator=generator)
        mask = self.coder.symbols.index("<mask>")
        shown_BT = torch.where(fate_BT < MASKED, mask, torch.where(fate_BT < MASKED + REPLACED, random_BT, true_BT))
        return (torch.where(chosen_BT, shown_BT, true_BT),), true_BT.where(chosen_BT, IGNORED)

    def metrics(self, split: Split, loss: float, accuracy: float, whole: float) -> dict[str, float]:
        return {"perplexity": math.exp(min(loss, 700.0))}
