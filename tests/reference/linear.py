"""Kernel attention with ELU + 1."""

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.attention import Attention
from tests.reference.parts import at_positions, heads_of, joined, seen_by


def linear(layer: Attention, x: Tensor, memory: Tensor | None, padding: Tensor | None):
    q, k, v = heads_of(layer, x, memory)
    q, k = F.elu(q) + 1, F.elu(k) + 1
    turns = layer.position == "rope" and memory is None
    turned_q, turned_k = (at_positions(q), at_positions(k)) if turns else (q, k)
    (B, T, H, E), S = q.shape, k.size(1)
    y, weights = [], torch.zeros(B, H, T, S)
    for b in range(B):
        for t in range(T):
            seen = seen_by(layer, b, t, S, memory is not None, padding)
            for h in range(H):
                products = turned_k[b, seen, h] @ turned_q[b, t, h]
                y.append(products @ v[b, seen, h] / ((k[b, seen, h] @ q[b, t, h]).sum() + 1e-6))
                if seen:
                    weights[b, h, t, seen] = (products / products.abs().sum()).detach()
    return joined(layer, torch.stack(y).view(B, T, H, E)), weights
