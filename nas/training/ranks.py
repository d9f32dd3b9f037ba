"""Joins the processes of one data-parallel training: each is a rank, and rank 0 leads.

Shapes: N numbers.
"""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nas.errors import NasError

PATIENCE_SECONDS = 600.0
"""The seconds for which a rank waits for another one in the midst of a step."""


class RankLost(NasError):
    """Another rank has ended, or does not answer."""

    code = "rank-lost"


class Ranks(Protocol):
    """Tells which rank this process is, and how many there are. Every rank makes the same calls in the same order."""

    rank: int
    size: int

    def sum(self, numbers_N: Tensor) -> None:
        """Replaces the numbers, on every rank, by their sum over all ranks. Raises RankLost."""

    def copy(self, numbers_N: Tensor) -> None:
        """Replaces the numbers, on every rank, by those of rank 0. Raises RankLost."""


class Alone:
    """Stands for a training in one process."""

    rank, size = 0, 1

    def sum(self, numbers_N: Tensor) -> None:
        """Does nothing."""

    def copy(self, numbers_N: Tensor) -> None:
        """Does nothing."""


class ProcessGroup:
    """Joins processes of this machine, by gloo on the CPU and by NCCL on GPUs.

    It is a group of its own: a program that uses torch.distributed itself keeps its default group.
    """

    def __init__(self, folder: Path, rank: int, size: int, device: torch.device) -> None:
        """Waits until all ranks have come. They find each other by a file in the folder. Raises RankLost."""
        self.rank, self.size = rank, size
        self._patience = timedelta(seconds=PATIENCE_SECONDS)
        try:
            self._group = self._joined(folder, device)
        except RuntimeError as error:
            raise _lost(error) from error

    def _joined(self, folder: Path, device: torch.device) -> Any:
        distributed: Any = torch.distributed  # its types leave out most of what follows
        store = distributed.FileStore(str(folder / "store"), self.size)
        if device.type == "cuda":
            torch.cuda.set_device(device)
            nccl = distributed.ProcessGroupNCCL.Options()
            nccl._timeout = self._patience
            return distributed.ProcessGroupNCCL(store, self.rank, self.size, nccl)
        gloo = distributed.ProcessGroupGloo._Options()
        gloo._timeout = self._patience
        # Ranks never leave this machine, whatever its name resolves to.
        gloo._devices = [distributed.ProcessGroupGloo.create_device(hostname="127.0.0.1")]
        return distributed.ProcessGroupGloo(store, self.rank, self.size, gloo)

    def sum(self, numbers_N: Tensor) -> None:
        try:
            self._group.allreduce([numbers_N]).wait()
        except RuntimeError as error:
            raise _lost(error) from error

    def copy(self, numbers_N: Tensor) -> None:
        options = torch.distributed.BroadcastOptions()
        options.rootRank, options.rootTensor = 0, 0
        try:
            self._group.broadcast([numbers_N], options).wait()
        except RuntimeError as error:
            raise _lost(error) from error

    def abort(self) -> None:
        """Ends what waits for a rank that will not come. On a GPU such a wait would last for ever."""
        self._group.abort()


class GradientSum:
    """Sums the loss and the gradients over all ranks, as one message a step.

    Which parameters have gradients is a matter of the architecture, so it is found once. Where this rank's share has
    none, since no target in it counts, zeros stand for them.
    """

    def __init__(self, ranks: Ranks, parameters: Iterable[nn.Parameter]) -> None:
        self._ranks, self._parameters = ranks, list(parameters)
        self._learning: list[nn.Parameter] | None = None

    def take(self, loss: Tensor) -> Tensor:
        """Replaces each gradient by the sum over all ranks, and returns the sum of the losses."""
        if self._ranks.size == 1:
            return loss
        if self._learning is None:
            self._learning = self._with_gradients(loss.device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._learning]
        told_N = torch.cat([loss.reshape(1), *(gradient.flatten() for gradient in gradients)])
        self._ranks.sum(told_N)
        start = 1
        for p in self._learning:
            p.grad = told_N[start : start + p.numel()].view_as(p)
            start += p.numel()
        return told_N[0]

    def _with_gradients(self, device: torch.device) -> list[nn.Parameter]:
        """Returns the parameters that have a gradient on any rank."""
        present_N = torch.tensor([float(p.grad is not None) for p in self._parameters], device=device)
        self._ranks.sum(present_N)
        return [p for p, present in zip(self._parameters, present_N.tolist(), strict=True) if present]


def _lost(error: RuntimeError) -> RankLost:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return RankLost("another process of this training has ended or does not answer", detail=said[:300])
