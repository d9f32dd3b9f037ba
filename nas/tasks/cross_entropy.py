"""Computes the cross-entropy of logits some rows at a time, so that large vocabularies take no copy of the logits.

Shapes: N tokens, V vocabulary, C rows of a chunk.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

LARGE = 2**20
"""Fewer logits than this are computed at once, by PyTorch's own function."""
CHUNK_VALUES = {"cpu": 2**18, "cuda": 2**24}
"""The logits of a chunk, by kind of device: on a CPU a chunk lies in its cache, on a GPU it keeps all units busy."""


def mean_cross_entropy(logits_NV: Tensor, targets_N: Tensor, ignored: int) -> Tensor:
    """Returns L = mean_n −log softmax(x_n)_{y_n}, in nats, over the targets that are not `ignored`.

    The caller must not read the logits again: in fp32, those of a large vocabulary are overwritten, by their
    log-probabilities at once and by their gradient, (softmax(x_n) − onehot(y_n)) / N, in the backward pass. PyTorch's
    own function makes three more tensors of their size. Raises RuntimeError in the backward pass where the logits'
    own operator still needs them.
    """
    if logits_NV.numel() < LARGE or logits_NV.dtype != torch.float32 or not logits_NV.requires_grad:
        return F.cross_entropy(logits_NV, targets_N, ignore_index=ignored)
    mean: Tensor = _Overwriting.apply(logits_NV, targets_N, ignored)  # type: ignore[no-untyped-call]
    return mean


def summed_cross_entropy(logits_NV: Tensor, targets_N: Tensor, ignored: int) -> Tensor:
    """Returns Σ_n −log softmax(x_n)_{y_n} over the targets that are not `ignored`, and leaves the logits alone."""
    if logits_NV.numel() < LARGE:
        return F.cross_entropy(logits_NV, targets_N, ignore_index=ignored, reduction="sum")
    parts = [
        F.cross_entropy(logits_CV, targets_C, ignore_index=ignored, reduction="sum")
        for logits_CV, targets_C in _chunks(logits_NV, targets_N)
    ]
    return torch.stack(parts).sum()


class _Overwriting(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, targets_N: Tensor, ignored: int) -> Tensor:
        nats = logits_NV.new_zeros(())
        for logits_CV, targets_C in _chunks(logits_NV, targets_N):
            log_p_CV = logits_CV.log_softmax(dim=1)
            nats += F.nll_loss(log_p_CV, targets_C, ignore_index=ignored, reduction="sum")
            logits_CV.copy_(log_p_CV)
        counted_N = targets_N != ignored
        count = counted_N.sum()
        ctx.save_for_backward(logits_NV, targets_N.where(counted_N, 0), counted_N / count)
        return nats / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        log_p_NV, targets_N, shares_N = ctx.saved_tensors
        shares_N1 = (slope * shares_N)[:, None]
        for log_p_CV, targets_C, shares_C1 in _chunks(log_p_NV, targets_N, shares_N1):
            gradient_CV = log_p_CV.exp_().mul_(shares_C1)
            places_C1 = targets_C[:, None]
            gradient_CV.scatter_(1, places_C1, gradient_CV.gather(1, places_C1) - shares_C1)
        return log_p_NV, None, None


def _chunks(logits_NV: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yields views of some rows of each tensor, in order."""
    rows = max(1, CHUNK_VALUES[logits_NV.device.type] // logits_NV.size(1))
    return zip(*(torch.split(tensor, rows) for tensor in (logits_NV, *others)), strict=True)
