"""Computes parameters, FLOPs and decode state of architectures without building them: sums over their blocks.

The cost of a block does not depend on the other blocks. So each distinct block is built once, without memory for its
tensors (on torch's meta device), and a pool of a thousand architectures is priced by addition.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nas import models
from nas.architecture import Architecture, Block
from nas.measure.cheap import KIB
from nas.measure.generation import Generator, Reader
from nas.models import TOKENS, Head

WEIGHTS = (torch.empty, torch.randn)
"""The functions with which models make weights."""


@dataclass(frozen=True)
class Cost:
    """Holds the cost of one model.

    `flops` is for a forward pass over one full context; `state_bytes` is the decode state at full context.
    """

    params: int
    flops: int
    state_bytes: int

    def plus(self, other: "Cost", times: int = 1) -> "Cost":
        return Cost(
            self.params + times * other.params,
            self.flops + times * other.flops,
            self.state_bytes + times * other.state_bytes,
        )


class Costs:
    """Adds up the costs of models for a vocabulary and a context; `batch` sequences are decoded side by side."""

    def __init__(self, vocabulary: int, context: int, batch: int = 1, head: Head = TOKENS) -> None:
        self.vocabulary, self.context, self.batch, self.head = vocabulary, context, batch, head
        self._shells: dict[tuple[Any, ...], Cost] = {}
        self._blocks: dict[tuple[str, int, int, str, Block], Cost] = {}
        self._whole: dict[str, Cost] = {}

    def metrics(self, architecture: Architecture) -> dict[str, float]:
        """Returns the metrics that need no measurement, by their names in nas.results.METRICS."""
        cost = self.of(architecture)
        known = {"params": float(cost.params), "flops_per_token": cost.flops / self.context}
        return known if architecture.family == "encoder" else known | {"decode_state_kib": cost.state_bytes / KIB}

    def of(self, architecture: Architecture) -> Cost:
        """Returns the costs of an architecture; a test compares them with those of the built model."""
        if architecture.family == "recurrent":  # its first layer is another, and there are few of them
            return self._build(architecture)
        shell = self._shell(architecture)
        for side in ("blocks", "encoder_blocks"):
            for block in getattr(architecture, side):
                shell = shell.plus(self._block(architecture, side, block))
        return shell

    def _shell(self, architecture: Architecture) -> Cost:
        """Returns the cost of all but the blocks: embedding, positions, norms at both ends, from the first model with
        such a shell.
        """
        sides = (architecture.blocks, architecture.encoder_blocks)
        bare = tuple(value for name, value in architecture if name not in ("blocks", "encoder_blocks"))
        ends = [
            (s[0].norm, s[0].residual, s[-1].norm, s[-1].residual, frozenset(b.position for b in s)) for s in sides if s
        ]
        key = (bare, *ends)
        if key not in self._shells:
            shell = self._build(architecture)
            for side in ("blocks", "encoder_blocks"):
                for block in getattr(architecture, side):
                    shell = shell.plus(self._block(architecture, side, block), times=-1)
            self._shells[key] = shell
        return self._shells[key]

    def _block(self, architecture: Architecture, side: str, block: Block) -> Cost:
        """Returns what a second block like this adds to the first."""
        key = (architecture.family, architecture.hidden, architecture.repeat, side, block)
        cost = self._blocks.get(key)
        if cost is None:
            others = {"encoder_blocks": architecture.encoder_blocks[:1], "blocks": architecture.blocks[:1]}
            one = architecture.model_copy(update=others | {side: (block,)})
            two = architecture.model_copy(update=others | {side: (block, block)})
            cost = self._blocks[key] = self._build(two).plus(self._build(one), times=-1)
        return cost

    def _build(self, architecture: Architecture) -> Cost:
        key = repr(architecture)
        if key not in self._whole:
            with Unfilled():
                model = models.build(architecture, self.vocabulary, self.context, self.head)
            generator = model if isinstance(model, Generator) else Reader(model)
            params = sum(p.numel() for p in model.parameters() if p.requires_grad)
            state = generator.state_bytes(self.batch, self.context)
            self._whole[key] = Cost(params, generator.flops(self.context), state)
        return self._whole[key]


class Unfilled(TorchFunctionMode):
    """Gives weights a shape and no values. Tables, such as those of positions, are made as usual.

    With everything on the meta device, torch would load its compiler, and sympy, to draw first values, to scale them
    and to fill tables: a second of the start.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if getattr(func, "__module__", "") == nn.init.__name__:
            return options["tensor"]
        if func is Tensor.div_ and args[0].is_meta:
            return args[0]
        return func(*args, **{**options, "device": "meta"} if func in WEIGHTS else options)
