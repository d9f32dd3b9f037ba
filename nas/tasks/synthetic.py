"""Generates tasks that test what a mechanism can remember, and find again. Every batch is new.

Shapes: B batch, T context, K pairs or copied tokens, S slots.
"""

import hashlib
import json
import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from nas.settings.task_settings import AssociativeRecall as RecallSettings
from nas.settings.task_settings import SelectiveCopy as CopySettings
from nas.tasks.base import WHOLE, Floors, Split
from nas.tasks.coders import Words
from nas.tasks.token_task import IGNORED, Examples, TokenTask

SEEDS: dict[Split, int] = {"val": 2**31, "test": 2**31 + 1}
"""The seeds of the examples to evaluate on; trials have smaller ones. On a CPU torch takes the last 32 bits of larger
seeds."""

EXAMPLES = 3000
"""The most examples to evaluate on, as published."""


class GeneratedTask(TokenTask):
    """Generates examples by a law; equal seeds give equal examples."""

    chance: float
    """The loss of a model that only knows which tokens may be asked for."""

    def __init__(self, settings: RecallSettings | CopySettings, symbols: list[str]) -> None:
        self.settings, self.coder, self.context = settings, Words(symbols), settings.context

    @abstractmethod
    def examples(self, generator: torch.Generator, size: int) -> Examples:
        """Draws so many examples with the generator."""

    def describe(self) -> dict[str, Any]:
        """Describes the law; two studies have the same data when their laws and versions agree."""
        law = {"version": 1, **self.settings.model_dump(mode="json")}
        text = json.dumps(law, sort_keys=True)
        return {
            "name": self.settings.kind,
            "source": "generated",
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "vocabulary": self.vocabulary,
            "law": law,
        }

    def floors(self, split: Split, max_tokens: int = WHOLE) -> Floors:
        return {"guessing": {"loss": self.chance, "accuracy": math.exp(-self.chance)}}

    def training(self, generator: torch.Generator, size: int) -> Examples:
        return self.examples(generator, size)

    def evaluation(self, split: Split, max_tokens: int, at_once: int) -> Iterator[Examples]:
        generator = torch.Generator().manual_seed(SEEDS[split])
        left = min(EXAMPLES, max(1, max_tokens // self.context))
        while left:
            size = min(left, at_once)
            left -= size
            yield self.examples(generator, size)

    def metrics(self, split: Split, loss: float, accuracy: float, whole: float) -> dict[str, float]:
        return {"exact_match": whole}


class AssociativeRecall(GeneratedTask):
    """Tests multi-query associative recall (Arora et al. 2023, arXiv:2312.04927; law of HazyResearch/zoology d88d6f5).

    K keys and K values, all different, come as k1 v1 k2 v2 …. Then each key comes once more, in a slot of two tokens.
    Slots are drawn without replacement, slot i = 1 … S with a probability in proportion to i^(power − 1): small powers
    put most keys early. Where a key comes again, its value is to be predicted; nothing else counts. Between these slots
    stand zeros, or with `random_gaps` any tokens. Keys are 1 … V/2 − 1, values V/2 … V − 1.
    """

    settings: RecallSettings

    def __init__(self, settings: RecallSettings) -> None:
        half = settings.vocabulary // 2
        keys, values = [f"k{i}" for i in range(1, half)], [f"v{i}" for i in range(half, settings.vocabulary)]
        super().__init__(settings, ["-", *keys, *values])
        self.chance = math.log(len(values))

    def examples(self, generator: torch.Generator, size: int) -> Examples:
        pairs, vocabulary, context = self.settings.pairs, self.settings.vocabulary, self.context
        half, slots = vocabulary // 2, (context - 2 * pairs) // 2
        keys_BK = 1 + _distinct(torch.zeros(size, half - 1), pairs, generator)
        values_BK = half + _distinct(torch.zeros(size, vocabulary - half), pairs, generator)
        chance_S = (self.settings.power - 1) * torch.arange(1, slots + 1).log()
        places_BK = 2 * pairs + 2 * _distinct(chance_S.expand(size, -1), pairs, generator)
        if self.settings.random_gaps:
            tokens_BT = torch.randint(vocabulary, (size, context), generator=generator)
        else:
            tokens_BT = torch.zeros(size, context, dtype=torch.long)
        tokens_BT[:, 0 : 2 * pairs : 2], tokens_BT[:, 1 : 2 * pairs : 2] = keys_BK, values_BK
        tokens_BT.scatter_(1, places_BK, keys_BK)
        targets_BT = torch.full_like(tokens_BT, IGNORED).scatter_(1, places_BK, values_BK)
        return (tokens_BT,), targets_BT


class SelectiveCopy(GeneratedTask):
    """Tests selective copying (Gu and Dao 2023, arXiv:2312.00752; as in MAD, arXiv:2403.17844).

    K of V − 2 symbols, repeats allowed, stand in order. Each of T − 2 K − 1 blanks is put before a symbol that is drawn
    evenly. Then come a mark, and K blanks, where the symbols are to be predicted in the same order.
    """

    settings: CopySettings

    def __init__(self, settings: CopySettings) -> None:
        super().__init__(settings, [*(f"t{i}" for i in range(settings.vocabulary - 2)), "-", "copy"])
        self.chance = math.log(settings.vocabulary - 2)

    def examples(self, generator: torch.Generator, size: int) -> Examples:
        copied, context = self.settings.copied, self.context
        blank, mark = self.settings.vocabulary - 2, self.settings.vocabulary - 1
        told_BK = torch.randint(blank, (size, copied), generator=generator)
        before_BS = torch.randint(copied, (size, context - 2 * copied - 1), generator=generator)
        gaps_BK = torch.zeros(size, copied, dtype=torch.long).scatter_add_(1, before_BS, torch.ones_like(before_BS))
        places_BK = gaps_BK.cumsum(dim=1) + torch.arange(copied)
        tokens_BT = torch.full((size, context), blank).scatter_(1, places_BK, told_BK)
        tokens_BT[:, context - copied - 1] = mark
        targets_BT = torch.full_like(tokens_BT, IGNORED)
        targets_BT[:, context - copied :] = told_BK
        return (tokens_BT,), targets_BT


def _distinct(chance_BS: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draws `count` different numbers a row (B, K), in order, one by one, with these log-probabilities.

    The largest sums of a logarithm and Gumbel noise are such a draw (Kool et al. 2019, arXiv:1903.06059).
    """
    noise_BS = -torch.empty(chance_BS.shape).exponential_(generator=generator).log()
    return (chance_BS + noise_BS).topk(count, dim=1).indices
