"""The parts of a Transformer around its attention.

Shapes: B batch, T tokens, D hidden, F inner size of the feed-forward.
"""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nas import attention
from nas.architecture import Block, FeedForward
from nas.attention import Attention, State
from nas.attention.stacked import Stacked


class Norm(nn.Module):
    """x / √(mean(x²) + ε) over the hidden size: RMSNorm (Zhang & Sennrich 2019, arXiv:1910.07467).

    Without a gain: the matrix that reads the result can hold it.
    """

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return F.rms_norm(x_BTD, x_BTD.shape[-1:], eps=1e-6)


class SwiGLU(nn.Module):
    """W_down (silu(W_gate x) ⊙ W_up x) (Shazeer 2020, arXiv:2002.05202), gate and up in one matrix."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.gate_up = Stacked(hidden, (inner, inner))
        self.down = nn.Linear(inner, hidden, bias=False)

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        gate_BTF, up_BTF = self.gate_up(x_BTD).chunk(2, dim=-1)
        y_BTD: Tensor = self.down(F.silu(gate_BTF) * up_BTF)
        return y_BTD


class GELU(nn.Module):
    """W_down gelu(W_up x) (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.up = nn.Linear(hidden, inner, bias=False)
        self.down = nn.Linear(inner, hidden, bias=False)

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        y_BTD: Tensor = self.down(F.gelu(self.up(x_BTD)))
        return y_BTD


def build_feed_forward(spec: FeedForward, hidden: int) -> SwiGLU | GELU:
    match spec.kind:
        case "swiglu":
            return SwiGLU(hidden, spec.inner(hidden))
        case "gelu":
            return GELU(hidden, spec.inner(hidden))


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, block: Block, hidden: int, context: int) -> None:
        super().__init__()
        self.norm = Norm()
        self.attention: Attention[Any] = attention.build(block.attention, hidden, context)
        self.feed_forward = build_feed_forward(block.feed_forward, hidden)

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        x_BTD = x_BTD + self.attention(self.norm(x_BTD))
        x_BTD = x_BTD + self.feed_forward(self.norm(x_BTD))
        return x_BTD

    def step(self, x_BTD: Float[Tensor, "B T D"], state: State) -> Float[Tensor, "B T D"]:
        """The same for T new tokens after those that the state holds."""
        x_BTD = x_BTD + self.attention.step(self.norm(x_BTD), state)
        x_BTD = x_BTD + self.feed_forward(self.norm(x_BTD))
        return x_BTD

    def flops(self, tokens: int) -> int:
        matrices = [m for m in self.feed_forward.children() if isinstance(m, nn.Linear)]
        return self.attention.flops(tokens) + sum(2 * tokens * m.in_features * m.out_features for m in matrices)
