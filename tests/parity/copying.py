"""Weights of others' modules into ours, and the comparison of what both make of the same input.

Shapes: B batch, T tokens, D hidden, N heads, E head size.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from nas.attention import Attention
from nas.models.stack import LOGIT_SCALE, Vocabulary

TOLERANCE = 1e-4

Module = TypeVar("Module", bound=nn.Module)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    """Equal but for rounding, and not because there is little to differ in."""
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@torch.no_grad()
def stirred(module: Module, size: float = 2.5) -> Module:
    """Without dropout, and with new weights: scores far from 0, no gain 1, no bias 0.

    `size`: of what a matrix makes of vectors of size 1.
    """
    generator = torch.Generator().manual_seed(1)
    for weight in module.parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.dim() == 1:
            weight.add_(0.1 * noise)
        elif weight.requires_grad:  # no table of sines
            weight.copy_(size * noise / math.sqrt(weight.size(-1)))
    return module.eval()


@torch.no_grad()
def copy(ours: nn.Module, *theirs: nn.Module, gain: Tensor | None = None) -> None:
    """Matrices and biases of theirs, one above the other, into one of ours; of norms and embeddings likewise.

    `gain`: of their root-mean-square norm in front, which ours does not have. W (g ⊙ x) = (W diag(g)) x, so that the
    matrix holds it.
    """
    weight = torch.cat([part.weight for part in theirs])
    ours.weight.copy_(weight if gain is None else weight * gain)
    biases = [part.bias for part in theirs if getattr(part, "bias", None) is not None]
    assert len(biases) in (0, len(theirs))
    if biases:
        ours.bias.copy_(torch.cat(biases))
    else:
        assert getattr(ours, "bias", None) is None


def copy_attention(
    ours: Attention, queries: nn.Module, keys: nn.Module, values: nn.Module, out: nn.Module, gain: Tensor | None = None
) -> None:
    copy(ours.qkv, queries, keys, values, gain=gain)
    copy(ours.out, out)


@torch.no_grad()
def copy_vocabulary(ours: Vocabulary, embedding: nn.Module, head: nn.Module, gain: Tensor | None = None) -> None:
    """Untied, as a tied embedding of ours is normed. Our logits are scaled, so that the head is less by as much."""
    assert ours.head is not ours.embedding
    copy(ours.embedding, embedding)
    weight = head.weight if gain is None else head.weight * gain
    ours.head.weight.copy_(weight / LOGIT_SCALE)


def matrix(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """x → W x + b, where theirs is kept in another order or shape."""
    made = nn.Linear(weight.size(1), weight.size(0), bias is not None)
    made.weight = nn.Parameter(weight.detach())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach())
    return made


def in_halves(weight: Tensor) -> Tensor:
    """(…, E, D) that rotary positions turn in pairs of neighbours, in the order in which ours turn value i and i + E/2.

    Scores stay as they are when queries and keys are put into another order alike.
    """
    return torch.cat((weight[..., 0::2, :], weight[..., 1::2, :]), dim=-2)


@torch.no_grad()
def decoded(layer: Attention, x: Tensor, splits: Sequence[int]) -> Tensor:
    """The outputs of a prompt and steps of these lengths."""
    state = layer.new_state(len(x), x.size(1))
    return torch.cat([layer.step(part, state) for part in x.split(list(splits), dim=1)], dim=1)


def tokens(batch: int, length: int, vocabulary: int) -> Tensor:
    return torch.randint(vocabulary, (batch, length), generator=torch.Generator().manual_seed(2))


def vectors(batch: int, length: int, hidden: int, seed: int = 3) -> Tensor:
    return torch.randn(batch, length, hidden, generator=torch.Generator().manual_seed(seed))


def padding_of(batch: int, length: int) -> Tensor:
    """True at tokens to ignore: the last five of the first sequence, the first three of the second."""
    padding = torch.zeros(batch, length, dtype=torch.bool)
    padding[0, -5:] = padding[1, :3] = True
    return padding


def hidden_from(visible: Tensor) -> Tensor:
    """What transformers adds to scores: 0 where visible, else the lowest number."""
    return torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
