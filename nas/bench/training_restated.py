"""Restates nanoGPT's CPU setting from its formulas: model, first weights, AdamW and schedule.

The setting is that of nanoGPT's README and config/train_shakespeare_char.py (github.com/karpathy/nanoGPT): pre-norm
blocks without biases, learned positions, exact GELU, tied embeddings, dropout 0.

Shapes: B batch, T tokens, D hidden, H heads, d head size, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEARNING_RATE, LEAST_RATE, WARMUP_STEPS = 1e-3, 1e-4, 100
BETAS, WEIGHT_DECAY, CLIP = (0.9, 0.99), 0.1, 1.0
SPREAD = 0.02
"""The standard deviation of the first weights."""


@dataclass(frozen=True)
class Shape:
    """Holds the sizes of the model and of a batch; the defaults are nanoGPT's for a CPU."""

    layers: int = 4
    heads: int = 4
    hidden: int = 128
    context: int = 64
    batch: int = 12


class RestatedBlock(nn.Module):
    """x ← x + W_o softmax(q kᵀ / √d) v of norm(x), then x ← x + W_2 gelu(W_1 norm(x)), with 4 D inner units."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(hidden, bias=False) for _ in range(2))
        self.queries_keys_values = nn.Linear(hidden, 3 * hidden, bias=False)
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.up = nn.Linear(hidden, 4 * hidden, bias=False)
        self.down = nn.Linear(4 * hidden, hidden, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        joined = self.queries_keys_values(self.norms[0](x_BTD)).unflatten(-1, (3, self.heads, -1))
        q_BHTd, k_BHTd, v_BHTd = joined.permute(2, 0, 3, 1, 4)
        read_BHTd = F.scaled_dot_product_attention(q_BHTd, k_BHTd, v_BHTd, is_causal=True)
        x_BTD = x_BTD + self.out(read_BHTd.transpose(1, 2).flatten(2))
        y_BTD: Tensor = x_BTD + self.down(F.gelu(self.up(self.norms[1](x_BTD))))
        return y_BTD


class RestatedGpt(nn.Module):
    """logits = E norm(block_L(… block_1(E[tokens] + P))), with one matrix E for input and output.

    Weights start normal with a deviation of .02; those that write to the residual stream with .02 / √(2 L).
    """

    def __init__(self, shape: Shape, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, shape.hidden)
        self.places = nn.Embedding(shape.context, shape.hidden)
        self.blocks = nn.ModuleList(RestatedBlock(shape.hidden, shape.heads) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.hidden, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                writes = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=SPREAD / math.sqrt(2 * shape.layers) if writes else SPREAD)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        x_BTD = self.tokens(tokens_BT) + self.places.weight[: tokens_BT.size(1)]
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return F.linear(self.norm(x_BTD), self.tokens.weight)


def learning_rate(step: int, steps: int) -> float:
    """Returns the rate at step s = 0 .. steps − 1: a linear rise, then half a cosine from 1e-3 to 1e-4."""
    if step < WARMUP_STEPS:
        return LEARNING_RATE * (step + 1) / (WARMUP_STEPS + 1)
    progress = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return LEAST_RATE + 0.5 * (1 + math.cos(math.pi * progress)) * (LEARNING_RATE - LEAST_RATE)


def adamw(model: nn.Module) -> torch.optim.AdamW:
    """Builds PyTorch's own AdamW; matrices and embeddings decay, gains do not."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS)
