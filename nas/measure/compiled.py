"""Runs a model as torch.compile translates it, for the targets whose runtime that is.

The first calls compile, for tens of seconds, in this very process. torch keeps the code on the disk, by the graph of
the model, so that the same architecture compiles faster the next time.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nas.measure.generation import Generation, Generator, Workload

BACKEND = "inductor"
OPTIONS: dict[str, Any] = {"compile_threads": 1}
GENERATIONS = 2
"""The first one compiles for the first position, the second position makes it general, and then nothing is new."""


def compiled(model: nn.Module) -> nn.Module:
    """Has the model's own prefill and decode step compiled at their first call, or its forward pass if it has none."""
    for name in ("prefill", "decode_step") if isinstance(model, Generator) else ("forward",):
        # Without the decorator around it, which a measurement does not need: it is in that mode already.
        plain = getattr(type(model), name)
        written: Callable[..., Any] = getattr(plain, "__wrapped__", plain).__get__(model)
        setattr(model, name, torch.compile(written, backend=BACKEND, options=OPTIONS))
    return model


def warm_up(generator: Generator, workload: Workload) -> None:
    """Generates until every shape is compiled. Call it within `quiet`."""
    generation = Generation(generator, workload)
    for _ in range(GENERATIONS):
        generation.prefill_ms()
        if workload.generates:
            generation.all_ms()
        if workload.answers:
            generation.whole_ms()
