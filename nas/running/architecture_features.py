"""Turns architectures into rows of numbers for the surrogates: sizes, counts, and the settings of each attention kind.

The columns are: hidden size, depth and passes; for each stack, the share of blocks of each kind, their mean height in
the stack, and the mean of each of their fields; positions, norms, residuals and feed-forward parts as shares of the
blocks; the logarithms of parameters, FLOPs and decode state where these can be computed. Numbers of 1 and more (heads,
windows, ranks) count by their logarithm.
"""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from nas.architecture import Architecture, Block
from nas.space.architecture_space import Space

SAMPLES = 400
IMPORTANT = 2.0
"""Sizes and costs weigh so much more than the other columns: they decide most, and the distance counts all columns
alike.
"""
IMPORTANT_COLUMNS = ("hidden", "depth", "encoder.depth", "params", "flops_per_token")

Describe = Callable[[Architecture], Mapping[str, float]]
"""A function that computes what is known of an architecture without building it, in natural units
(nas.measure.costs).
"""


class Features:
    """Turns the architectures of one space into rows. A column that is constant over the space is left out."""

    def __init__(self, space: Space, describe: Describe | None, seed: int) -> None:
        self.describe = describe
        generator = random.Random(f"{seed}:features")
        rows = [self.named(space.sample(generator)) for _ in range(SAMPLES)]
        names = dict.fromkeys(name for row in rows for name in row)
        spread = {name: _spread([row.get(name, 0.0) for row in rows]) for name in names}
        self._scale = {name: s / (IMPORTANT if name in IMPORTANT_COLUMNS else 1) for name, s in spread.items() if s}

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self._scale)

    def __call__(self, architecture: Architecture) -> list[float]:
        """Returns one row, scaled to variance 1 over the space."""
        named = self.named(architecture)
        return [named.get(name, 0.0) / scale for name, scale in self._scale.items()]

    def named(self, architecture: Architecture) -> dict[str, float]:
        """Returns the features by name, not scaled; a feature that the architecture lacks is absent."""
        row = {
            "hidden": math.log2(architecture.hidden),
            "repeat": math.log2(architecture.repeat),
            "tied": float(architecture.tied),
            f"family={architecture.family}": 1.0,
        }
        for prefix, blocks in (("", architecture.blocks), ("encoder.", architecture.encoder_blocks)):
            if blocks:
                row[f"{prefix}depth"] = math.log2(len(blocks))
                row |= {f"{prefix}{name}": value for name, value in _of_stack(blocks).items()}
        known = self.describe(architecture) if self.describe else {}
        return row | {name: math.log(value) for name, value in known.items() if value > 0}


def _of_stack(blocks: Sequence[Block]) -> dict[str, float]:
    """Computes means over the blocks."""
    total: defaultdict[str, float] = defaultdict(float)
    for i, block in enumerate(blocks):
        kind = block.attention.kind
        total[kind] += 1
        total[f"{kind}.height"] += (i + 0.5) / len(blocks) - 0.5
        for name, value in _fields(block):
            total[name] += value
    return {name: value / len(blocks) for name, value in total.items()}


@lru_cache(4096)
def _fields(block: Block) -> tuple[tuple[str, float], ...]:
    """Returns the columns to which a block adds; a pool of architectures is made of the same few blocks."""
    return tuple(_columns(block))


def _columns(block: Block) -> Iterator[tuple[str, float]]:
    kind, feed_forward = block.attention.kind, block.feed_forward
    for name in type(block.attention).model_fields:
        if name != "kind":
            yield _column(f"{kind}.{name}", getattr(block.attention, name))
    yield f"feed_forward={feed_forward.kind}", 1.0
    yield "feed_forward.ratio", math.log2(feed_forward.ratio) if feed_forward.kind != "none" else 0.0
    yield "feed_forward.bias", float(feed_forward.bias)
    for name in ("position", "norm", "residual"):
        yield _column(name, getattr(block, name))
    if block.cross:
        yield f"cross={block.cross.kind}", 1.0
        for name in type(block.cross).model_fields:
            if name != "kind":
                yield _column(f"cross.{block.cross.kind}.{name}", getattr(block.cross, name))


def _column(name: str, value: Any) -> tuple[str, float]:
    if isinstance(value, bool) or value is None:
        return name, float(bool(value))
    if isinstance(value, (int, float)):
        return name, 1 + math.log2(value) if value >= 1 else float(value)
    return f"{name}={value}", 1.0


def _spread(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
    return spread if spread > 1e-9 else 0.0
