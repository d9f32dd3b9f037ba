"""Multi-head latent attention, with keys and values written out."""

import torch
from torch import Tensor

from nas.attention import Attention
from tests.reference.parts import joined, seen_by, turned


def latent(layer: Attention, x: Tensor, memory: Tensor | None, padding: Tensor | None):
    (B, T, _), H, E, L = x.shape, layer.heads, layer.spec.size(layer.hidden), layer.spec.latent
    R = layer.spec.turned_size(layer.hidden) if layer.position == "rope" else 0
    W_q, W_c, W_r = layer.down.weight.split((H * (E + R), L, R))
    W_k, W_v = layer.up.weight.split(H * E)
    y, weights = [], torch.zeros(B, H, T, T)
    for b in range(B):
        keys, values = [], []
        for s in range(T):
            c = W_c @ x[b, s]
            c = c / (c.square().mean() + 1e-6).sqrt() * layer.gain_L
            shared = turned(W_r @ x[b, s], s)
            keys.append(torch.stack([torch.cat((content, shared)) for content in (W_k @ c).view(H, E)]))
            values.append((W_v @ c).view(H, E))
        keys, values = torch.stack(keys), torch.stack(values)
        for t in range(T):
            seen = seen_by(layer, b, t, T, False, padding)
            for h, q in enumerate((W_q @ x[b, t]).view(H, E + R)):
                if not seen:
                    y.append(torch.zeros(E))
                    continue
                q = torch.cat((q[:E], turned(q[E:], t)))
                share = torch.softmax(keys[seen, h] @ q / (E + R) ** 0.5, dim=0)
                weights[b, h, t, seen] = share.detach()
                y.append(share @ values[seen, h])
    return joined(layer, torch.stack(y).view(B, T, H, E)), weights
