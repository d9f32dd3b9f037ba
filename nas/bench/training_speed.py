"""Measures the speed of a training step: the optimiser's share of it, and its rate beside that of a matrix product."""

from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any

import torch

from nas.architecture import Architecture
from nas.bench.interleaved import Call, interleaved
from nas.measure import DeviceLock
from nas.settings.study_settings import TrainSettings
from nas.tasks import Task
from nas.training.trainer import Trainer

PRODUCT = 1024
"""The rows and columns of the matrices whose product is the measure."""
READINGS = 40
BACKWARD = 2
"""A backward pass has twice the matrix products of a forward pass: for the inputs and for the weights."""


def speeds(architectures: Mapping[int, Architecture], task: Task, batch: int) -> dict[str, Any]:
    """Returns {product_gflops, contended, rows}: for each width, the times of a step and of the optimiser's part.

    `training_gflops` is the rate of the model's matrix products in the rest of the step, forward and backward.
    """
    trainers = {width: Trainer(one, task, TrainSettings(batch=batch), seed=0) for width, one in architectures.items()}
    square = torch.randn(PRODUCT, PRODUCT, generator=torch.Generator().manual_seed(0))
    calls: dict[Hashable, Call] = {"product": Call(lambda _: square @ square)}
    for width, trainer in trainers.items():
        _pass(trainer)
        calls[width, "pass"] = Call(partial(_pass, trainer))
        calls[width, "optimiser"] = Call(partial(_update, trainer), prepare=partial(_pass, trainer))
    timed = interleaved(calls, READINGS, DeviceLock("cpu"))
    product = 2 * PRODUCT**3 / timed["product"].ms.median / 1e6
    rows = []
    for width, trainer in trainers.items():
        passed, optimised = (timed[width, part].ms.median for part in ("pass", "optimiser"))
        flops = (1 + BACKWARD) * batch * trainer.model.flops(task.context)  # type: ignore[operator]  # every model has it
        rows.append(
            {
                "hidden": width,
                "step_ms": passed + optimised,
                "optimiser_ms": optimised,
                "optimiser_share": optimised / (passed + optimised),
                "training_gflops": flops / passed / 1e6,
                "share_of_product": flops / passed / 1e6 / product,
            }
        )
    return {"product_gflops": product, "contended": max(one.contended for one in timed.values()), "rows": rows}


def _update(trainer: Trainer, prepared: object = None) -> None:
    """Takes the optimiser's part of a step."""
    trainer.optimiser.step()


def _pass(trainer: Trainer, prepared: object = None) -> None:
    """Computes the gradients of one batch."""
    inputs, targets = trainer.task.batch(trainer.generator, trainer.settings.batch, "cpu")
    loss = trainer.task.loss(trainer.model, inputs, targets)
    trainer.optimiser.zero_grad()
    torch.autograd.backward(loss)
