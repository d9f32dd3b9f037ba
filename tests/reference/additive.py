"""Softmax over scores by a small network."""

import torch
from torch import Tensor

from nas.attention import Attention
from tests.reference.dot_product import mix
from tests.reference.parts import heads_of, joined


def additive(layer: Attention, x: Tensor, memory: Tensor | None, padding: Tensor | None):
    def score(head: int, q: Tensor, ks: Tensor) -> Tensor:
        return torch.tanh(q + ks) @ layer.score_HE[head]

    y, weights = mix(layer, *heads_of(layer, x, memory), score, memory is not None, padding)
    return joined(layer, y), weights
