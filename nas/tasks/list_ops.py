"""Defines ListOps: a model computes nested operations on lists of digits."""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from statistics import median
from typing import Any

import torch
from torch import Tensor

from nas.errors import DataError
from nas.settings.task_settings import ListOps as ListOpsSettings
from nas.tasks import table
from nas.tasks.base import Split
from nas.tasks.class_task import ClassTask, Examples
from nas.tasks.coders import Words

OPERATORS: dict[str, Callable[[list[int]], int]] = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda values: int(median(values)),
    "[SM": lambda values: sum(values) % 10,
}
CLOSE = "]"
DIGITS = [str(digit) for digit in range(10)]
DEEPEST, BRANCHES, FEWEST, MOST = 10, 0.25, 2, 10
"""The most levels, the probability that an inner node has children, and the range of their number, drawn evenly."""
HELD_OUT = 2000
"""The number of trees of the validation split, and of the test split."""
SEEDS: dict[Split, int] = {"val": 1, "test": 2}
DRAWS, FEWEST_KEPT = 2000, 20
"""At least FEWEST_KEPT of DRAWS trees must be kept; otherwise making the splits would take many minutes."""
SHOWN = 4000
"""The number of training trees from which the floor is learned."""

Tree = tuple[str, ...]
"""A tree as it is written: [MAX 4 [MIN 2 3 ] 1 ]."""


class ListOpsTask(ClassTask):
    """loss = −ln p(digit | expression) (Nangia and Bowman 2018, arXiv:1804.06028).

    The law is that of Long Range Arena (arXiv:2011.04006, google-research/long-range-arena cd31e5c). A node is a digit
    with probability ¾, and always at the tenth level. Otherwise it is one of MIN, MAX, MED (the median, cut to a whole
    number) and SM (the sum modulo 10) of 2 to 10 nodes. Trees with more than `shortest` and fewer than `longest` tokens
    are kept. Every training batch is new, and never holds a tree of the other splits.
    """

    kept = "val"

    def __init__(self, settings: ListOpsSettings) -> None:
        self.settings, self.context = settings, settings.context
        self.coder, self.classes = Words([table.PAD, *OPERATORS, *DIGITS, CLOSE]), DIGITS
        self.held_out = _held_out(settings)
        self._taken = {tree for trees in self.held_out.values() for tree, _ in trees}

    @property
    def typical(self) -> tuple[int, int]:
        """Returns the median length of the validation split."""
        return int(median(len(tree) for tree, _ in self.held_out["val"])), 0

    def describe(self) -> dict[str, Any]:
        law = {"version": 1, **self.settings.model_dump(mode="json")}
        return {
            "name": self.settings.kind,
            "source": "generated",
            "sha256": hashlib.sha256(json.dumps(law, sort_keys=True).encode()).hexdigest(),
            "vocabulary": self.vocabulary,
            "law": law,
        }

    def lengths(self, split: Split) -> Tensor:
        return torch.tensor([len(tree) for tree, _ in self.held_out[split]])

    def true(self, split: Split) -> list[int]:
        return [value for _, value in self.held_out[split]]

    def guessed(self, split: Split) -> dict[str, list[int]]:
        """Returns the commonest digit of new trees."""
        counts = Counter(value for _, value in self._fresh(random.Random(0), SHOWN))
        return {"majority": [counts.most_common(1)[0][0]] * len(self.held_out[split])}

    def training(self, generator: torch.Generator, size: int) -> Examples:
        seed = int(torch.randint(2**62, (1,), generator=generator))
        return self._examples(self._fresh(random.Random(seed), size))

    def held(self, split: Split, numbers: list[int]) -> Examples:
        return self._examples([self.held_out[split][number] for number in numbers])

    def _examples(self, trees: list[tuple[Tree, int]]) -> Examples:
        inputs = table.padded([self.coder.encode(" ".join(tree)) for tree, _ in trees])
        return inputs, torch.tensor([value for _, value in trees])

    def _fresh(self, generator: random.Random, count: int) -> list[tuple[Tree, int]]:
        found = list[tuple[Tree, int]]()
        while len(found) < count:
            tree, value = drawn(generator, self.settings)
            if tree not in self._taken:
                found.append((tree, value))
        return found


@lru_cache(maxsize=2)
def _held_out(settings: ListOpsSettings) -> Mapping[Split, Sequence[tuple[Tree, int]]]:
    """Draws distinct trees with their values, none in both splits: seconds, so a process keeps the last.

    Raises DataError where they are too rare.
    """
    _check_law(settings)
    seen, found = set[Tree](), dict[Split, Sequence[tuple[Tree, int]]]()
    for split, seed in SEEDS.items():
        generator, kept = random.Random(seed), list[tuple[Tree, int]]()
        while len(kept) < HELD_OUT:
            tree, value = drawn(generator, settings)
            if tree not in seen:
                seen.add(tree)
                kept.append((tree, value))
        found[split] = tuple(kept)
    return found


def _check_law(settings: ListOpsSettings) -> None:
    generator = random.Random(0)
    if sum(_drawn(generator, settings) is not None for _ in range(DRAWS)) < FEWEST_KEPT:
        raise DataError(
            f"too few expressions have more than {settings.shortest} and fewer than {settings.longest} tokens",
            code="law-too-narrow",
            where="task.shortest and task.longest",
            detail=f"fewer than {FEWEST_KEPT} of {DRAWS:,} that were drawn",
            help="choose them further apart, or both smaller; the published ones are 500 and 2000",
        )


def drawn(generator: random.Random, settings: ListOpsSettings) -> tuple[Tree, int]:
    """Draws trees until one is kept."""
    while (tree := _drawn(generator, settings)) is None:
        pass
    return tree


def _drawn(generator: random.Random, settings: ListOpsSettings) -> tuple[Tree, int] | None:
    """Draws a tree, or None where it is not kept.

    The root is an operator, since a digit alone is never long enough.
    """
    written = list[str]()
    value = _grow(generator, 1, written, settings.longest - 1)
    return None if value is None or len(written) <= settings.shortest else (tuple(written), value)


def _grow(generator: random.Random, level: int, written: list[str], room: int) -> int | None:
    """Writes a node with all below it; returns its value, or None as soon as more than `room` tokens are needed."""
    if level > 1 and (level >= DEEPEST or generator.random() > BRANCHES):
        digit = generator.randrange(10)
        written.append(DIGITS[digit])
        return digit if len(written) <= room else None
    operator, count = generator.choice(list(OPERATORS)), generator.randint(FEWEST, MOST)
    if len(written) + count + 2 > room:
        return None
    written.append(operator)
    values = []
    for _ in range(count):
        value = _grow(generator, level + 1, written, room)
        if value is None:
            return None
        values.append(value)
    written.append(CLOSE)
    return OPERATORS[operator](values) if len(written) <= room else None
