"""A state in which what a key stood for is replaced."""

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.attention import Attention
from tests.reference.parts import heads_of, joined


def gated_delta(layer: Attention, x: Tensor, memory: Tensor | None, padding: Tensor | None):
    """Token by token. An ignored one leaves the state as it is, and is a zero to the convolution."""
    (B, T, _), H, E = x.shape, layer.heads, layer.head_size
    ignored = torch.zeros(B, T, dtype=torch.bool) if padding is None else padding
    q, k, v = (near(layer, i, made, ignored) for i, made in enumerate(heads_of(layer, x, None)))
    q, k = (heads / (heads.square().sum(-1, keepdim=True) + 1e-6).sqrt() for heads in (q, k))
    W_beta, W_alpha = layer.rates.weight.split(layer.rates.heights)
    beta = torch.sigmoid(x @ W_beta.T)
    alpha = torch.exp(-torch.exp(layer.log_decay_H) * F.softplus(x @ W_alpha.T + layer.step_bias_H))
    y, weights = [], torch.zeros(B, H, T, T)
    for b in range(B):
        for h in range(H):
            state, shares = torch.zeros(E, E), torch.zeros(T, E)
            for t in range(T):
                if not ignored[b, t]:
                    kept = alpha[b, t, h] * (torch.eye(E) - beta[b, t, h] * torch.outer(k[b, t, h], k[b, t, h]))
                    written = beta[b, t, h] * k[b, t, h]
                    state = kept @ state + torch.outer(written, v[b, t, h])
                    # What is left of each β_s k_s, for the weights: y_t is Σ_s (q_t · share_s) v_s.
                    shares = shares @ kept.detach().T
                    shares[t] = written.detach()
                y.append(q[b, t, h] @ state / E**0.5)
                share = shares @ q[b, t, h].detach()
                weights[b, h, t] = share / share.abs().sum().clamp(min=1e-30)
    y = torch.stack(y).view(B, H, T, E).transpose(1, 2)
    normed = layer.gain_E * y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    gate = (x @ layer.gate.weight.T).view(B, T, H, E)
    return joined(layer, normed * gate * torch.sigmoid(gate)), weights


def near(layer: Attention, i: int, made_BTHE: Tensor, ignored: Tensor) -> Tensor:
    """silu of the sum over the last tokens; i is 0 for queries, 1 for keys, 2 for values."""
    B, T, H, E = made_BTHE.shape
    made_BTHE = made_BTHE * ~ignored[..., None, None]
    if layer.spec.conv == 0:
        return made_BTHE * torch.sigmoid(made_BTHE)
    kernel = layer.kernel_nW.view(layer.spec.conv, 3, H, E)[:, i]
    sums = []
    for b in range(B):
        for t in range(T):
            seen = range(max(0, t - layer.spec.conv + 1), t + 1)
            terms = [kernel[layer.spec.conv - 1 - (t - s)] * made_BTHE[b, s] for s in seen]
            sums.append(sum(terms, torch.zeros(H, E)))
    mixed = torch.stack(sums).view(B, T, H, E)
    return mixed * torch.sigmoid(mixed)
