"""Softmax attention estimated by positive random features."""

import torch
from torch import Tensor

from nas.attention import Attention
from tests.reference.parts import at_positions, heads_of, joined, seen_by


def performer(layer: Attention, x: Tensor, memory: Tensor | None, padding: Tensor | None):
    q, k, v = heads_of(layer, x, memory)
    if layer.position == "rope" and memory is None:
        q, k = at_positions(q), at_positions(k)
    omega = layer.directions_FE

    def features(vector: Tensor) -> Tensor:
        small = vector / len(vector) ** 0.25
        return torch.exp(omega @ small - small @ small / 2) / len(omega) ** 0.5

    (B, T, H, E), S = q.shape, k.size(1)
    y, weights = [], torch.zeros(B, H, T, S)
    for b in range(B):
        phi_k = [torch.stack([features(k[b, s, h]) for s in range(S)]) for h in range(H)]
        for t in range(T):
            seen = seen_by(layer, b, t, S, memory is not None, padding)
            for h in range(H):
                if not seen:
                    y.append(torch.zeros(E))
                    continue
                products = phi_k[h][seen] @ features(q[b, t, h])
                share = products / products.sum()
                weights[b, h, t, seen] = share.detach()
                y.append(share @ v[b, seen, h])
    return joined(layer, torch.stack(y).view(B, T, H, E)), weights
