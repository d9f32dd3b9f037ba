"""Computes the gradient of a batch, whole or in parts that need less memory.

Shapes: B batch.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nas.tasks import Inputs
from nas.tasks.token_task import IGNORED, Examples, on_device

Loss = Callable[[Inputs, Tensor], Tensor]
"""Returns the mean loss over the targets that are not IGNORED."""


def backward(
    loss_of: Loss,
    batch: Examples,
    device: str,
    micro_batch: int | None = None,
    rank: int = 0,
    ranks: int = 1,
) -> Tensor:
    """Adds the gradient of this rank's share of the batch's loss to the parameters, and returns that share, detached.

    L = Σ_p (n_p / n) L_p, where part p holds n_p of the n targets that are not IGNORED, over which a task's loss is the
    mean. So the shares of all ranks sum to the loss of the whole batch, and their gradients to its gradient, but for
    rounding. A part has at most `micro_batch` examples; without it, each rank's share is one part. The batch is on the
    CPU, and each part alone is moved to the device.
    """
    counted, total = _counted(batch), None
    for part in _parts(batch, micro_batch, rank, ranks):
        # A part without targets has no mean.
        if not (own := _counted(part)):
            continue
        loss = loss_of(*on_device(device, part))
        share = loss if own == counted else loss * (own / counted)
        torch.autograd.backward(share)
        total = share.detach() if total is None else total + share.detach()
    return torch.zeros((), device=device) if total is None else total


def _parts(batch: Examples, micro_batch: int | None, rank: int, ranks: int) -> Iterator[Examples]:
    """Yields the parts of the rank's share: examples rank · B / ranks up to (rank + 1) · B / ranks."""
    inputs, targets = batch
    start, end = (len(targets) * r // ranks for r in (rank, rank + 1))
    most = micro_batch or max(1, end - start)
    for first in range(start, end, most):
        part = slice(first, min(first + most, end))
        yield tuple(tensor[part] for tensor in inputs), targets[part]


def _counted(batch: Examples) -> int:
    return int((batch[1] != IGNORED).sum())
