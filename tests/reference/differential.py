"""The difference of two softmax maps."""

import torch
from torch import Tensor

from nas.attention import Attention
from tests.reference.dot_product import mix
from tests.reference.parts import heads_of, joined


def differential(layer: Attention, x: Tensor, memory: Tensor | None, padding: Tensor | None):
    q, k, v = heads_of(layer, x, memory)
    (a_1, b_1), (a_2, b_2) = layer.vectors_22J
    start = layer.spec.subtracted
    taken = torch.exp(a_1 @ b_1) - torch.exp(a_2 @ b_2) + start
    half = layer.head_size // 2

    def halved(of: slice) -> tuple[Tensor, Tensor]:
        score = lambda head, q, ks: ks @ q / half**0.5  # noqa: E731  (read on the next line)
        return mix(layer, q[..., of], k[..., of], v, score, memory is not None, padding)

    (first, first_weights), (second, second_weights) = halved(slice(half)), halved(slice(half, None))
    y = first - taken * second
    y = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.gain_E * (1 - start)
    return joined(layer, y), first_weights - taken.detach() * second_weights
