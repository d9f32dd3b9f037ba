"""Softmax over learned mixtures of the tokens."""

import torch
from torch import Tensor

from nas.attention import Attention
from tests.reference.parts import at_positions, heads_of, joined


def linformer(layer: Attention, x: Tensor, memory: Tensor | None, padding: Tensor | None):
    q, k, v = heads_of(layer, x, None)
    if layer.position == "rope":
        q, k = at_positions(q), at_positions(k)
    A, G = layer.key_mix_RC, layer.value_mix_RC
    B, T, H, E = q.shape
    y, weights = [], torch.zeros(B, H, T, T)
    for b in range(B):
        real = [s for s in range(T) if padding is None or not padding[b, s]]
        for h in range(H):
            mixtures = A[:, real] @ k[b, real, h]
            for t in range(T):
                share = torch.softmax(mixtures @ q[b, t, h] / E**0.5, dim=0)
                weight = share @ G[:, real]
                weights[b, h, t, real] = weight.detach()
                y.append(weight @ v[b, real, h])
    return joined(layer, torch.stack(y).view(B, H, T, E).transpose(1, 2)), weights
