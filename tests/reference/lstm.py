"""Long short-term memory."""

import torch
from torch import Tensor

from nas.attention import Attention


def lstm(layer: Attention, x: Tensor, memory: Tensor | None, padding: Tensor | None):
    """Token by token. An ignored one leaves output and cells as they are."""
    B, T, D = x.shape
    W_i, W_f, W_g, W_o = layer.input.weight.split(D)
    U_i, U_f, U_g, U_o = layer.recurrent.weight.split(D)
    b_i, b_f, b_g, b_o = layer.input.bias.split(D)
    outputs = []
    for b in range(B):
        y, c = torch.zeros(D), torch.zeros(D)
        for t in range(T):
            if padding is None or not padding[b, t]:
                i = torch.sigmoid(W_i @ x[b, t] + U_i @ y + b_i)
                f = torch.sigmoid(W_f @ x[b, t] + U_f @ y + b_f + 1)
                g = torch.tanh(W_g @ x[b, t] + U_g @ y + b_g)
                o = torch.sigmoid(W_o @ x[b, t] + U_o @ y + b_o)
                c = f * c + i * g
                y = o * torch.tanh(c)
            outputs.append(y)
    return torch.stack(outputs).view(B, T, D), None
