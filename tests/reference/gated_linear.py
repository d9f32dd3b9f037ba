"""A state that forgets by gates computed from the data."""

import torch
from torch import Tensor

from nas.attention import Attention
from tests.reference.parts import heads_of
from tests.reference.retention import gated


def gated_linear(layer: Attention, x: Tensor, memory: Tensor | None, padding: Tensor | None):
    """Token by token. An ignored one leaves the state as it is: it adds nothing, and its α is 1."""
    q, k, v = heads_of(layer, x, memory)
    B, T, H, E = q.shape
    alpha = torch.sigmoid(x @ layer.forget_in.weight.T @ layer.forget_out.weight.T + layer.forget_out.bias) ** (1 / 16)
    alpha = alpha.clamp(min=torch.exp(torch.tensor(-2.5)).item()).view(B, T, H, E)
    y, weights = torch.zeros(B, T, H, E), torch.zeros(B, H, T, T)
    for b in range(B):
        for h in range(H):
            state, keys = torch.zeros(E, E), torch.zeros(T, E)
            for t in range(T):
                if padding is None or not padding[b, t]:
                    state = alpha[b, t, h][:, None] * state + torch.outer(k[b, t, h], v[b, t, h])
                    # What is left of each key, for the weights: y_t is Σ_s (q_t · key_s) v_s.
                    keys = keys * alpha[b, t, h].detach()
                    keys[t] = k[b, t, h].detach()
                y[b, t, h] = q[b, t, h] @ state / E**0.5
                share = keys @ q[b, t, h].detach()
                weights[b, h, t] = share / share.abs().sum().clamp(min=1e-30)
    return gated(layer, x, y), weights
