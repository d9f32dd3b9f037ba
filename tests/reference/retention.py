"""Decay by age."""

import torch
from torch import Tensor

from nas.attention import Attention
from tests.reference.parts import at_positions, heads_of, joined, seen_by


def retention(layer: Attention, x: Tensor, memory: Tensor | None, padding: Tensor | None):
    """Ages count every position, whether its token is ignored or not."""
    q, k, v = heads_of(layer, x, memory)
    if layer.position == "rope":
        q, k = at_positions(q), at_positions(k)
    B, T, H, E = q.shape
    y, weights = [], torch.zeros(B, H, T, T)
    for b in range(B):
        for t in range(T):
            seen = seen_by(layer, b, t, T, False, padding)
            for h in range(H):
                age = t - torch.tensor(seen, dtype=torch.float32)
                retained = (1 - 2.0 ** (-5 - h)) ** age * (k[b, seen, h] @ q[b, t, h]) / E**0.5
                y.append(retained @ v[b, seen, h])
                if seen:
                    weights[b, h, t, seen] = (retained / retained.abs().sum()).detach()
    return gated(layer, x, torch.stack(y).view(B, T, H, E)), weights


def gated(layer: Attention, x: Tensor, y_BTHE: Tensor) -> Tensor:
    """W_out (swish(W_gate x) ⊙ norm(y)), each head brought to root mean square 1."""
    gate = (x @ layer.gate.weight.T).view_as(y_BTHE)
    return joined(layer, gate * torch.sigmoid(gate) * y_BTHE / (y_BTHE.square().mean(-1, keepdim=True) + 1e-6).sqrt())
