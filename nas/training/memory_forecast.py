"""Forecasts the memory of a training step without taking it: every tensor is counted, and none is filled."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from nas.architecture import Architecture
from nas.measure.memory import MIB, StorageMeter
from nas.settings.study_settings import TrainSettings
from nas.tasks import Task, model_of
from nas.training import optimiser
from nas.training.execution import Execution


def training_mib(
    architecture: Architecture, task: Task, settings: TrainSettings, execution: Execution, ranks: int = 1
) -> float:
    """Returns the least memory in MiB that training takes on one rank: weights, gradients, state of the optimiser, and
    activations of the longest examples.

    The step runs on fake tensors, which have shapes and no values, as on a CPU with its fused attention. Left out are
    the temporaries of the optimiser and of kernels (an LSTM's keep much), the allocator's rounding, and what CUDA takes
    for itself: a training needs somewhat more than this, and never less.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # imports a part of the compiler

    inputs, targets = task.largest(settings.batch, "cpu")
    share = -(-settings.batch // ranks)
    size = min(settings.micro_batch or share, share)
    with torch.random.fork_rng(devices=[]), FakeTensorMode(allow_non_fake_inputs=True) as fake:
        model = model_of(architecture, task)
        states = optimiser.build(model, settings, _any_rate(settings)).state().values()
        part = [fake.from_tensor(tensor[:size].clone()) for tensor in (*inputs, targets)]
        meter = StorageMeter(model)
        with meter:
            for _ in range(2 if size < share else 1):  # further parts need their gradients beside the former sum
                _pass(task, model, part, execution)
        return (meter.peak + sum(tensor.nbytes for tensor in states)) / MIB


def _pass(task: Task, model: torch.nn.Module, part: Sequence[Tensor], execution: Execution) -> None:
    *inputs, targets = part
    with execution.around_loss("cpu") if execution.bf16 else nullcontext():
        loss = task.loss(model, tuple(inputs), targets)
    torch.autograd.backward(loss)


def _any_rate(settings: TrainSettings) -> float | None:
    """Returns one of the learning rates: the memory does not depend on it."""
    return (settings.learning_rate or (None,))[0]
