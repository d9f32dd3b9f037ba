"""Holds the parts of a Transformer around its attention.

Shapes: B batch, T tokens, S tokens of the source, D hidden, F inner size of the feed-forward, C context, H heads, G
heads that attend to the source.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nas import attention
from nas.architecture import Block, FeedForward
from nas.attention import Attention, Memory, State
from nas.attention.stacked import Stacked
from nas.attention.state import check_fits


class RMSNorm(nn.Module):
    """y = x / √(mean(x²) + ε) over the hidden size (Zhang & Sennrich 2019, arXiv:1910.07467).

    It has no gain, since the matrix that reads the result can hold it.
    """

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return F.rms_norm(x_BTD, x_BTD.shape[-1:], eps=1e-6)


def build_norm(kind: str, hidden: int) -> nn.Module:
    """Builds an RMS norm or a layer norm.

    Layer norm: (x − mean) / √(variance + ε) · gain + bias (Ba et al. 2016, arXiv:1607.06450).
    """
    return nn.LayerNorm(hidden, eps=1e-5) if kind == "layer" else RMSNorm()


class SwiGLU(nn.Module):
    """y = W_down (silu(W_gate x) ⊙ W_up x) (Shazeer 2020, arXiv:2002.05202), with gate and up in one matrix."""

    def __init__(self, hidden: int, inner: int, bias: bool = False) -> None:
        super().__init__()
        self.gate_up = Stacked(hidden, (inner, inner), bias)
        self.down = nn.Linear(inner, hidden, bias)

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        gate_BTF, up_BTF = self.gate_up(x_BTD).chunk(2, dim=-1)
        y_BTD: Tensor = self.down(F.silu(gate_BTF) * up_BTF)
        return y_BTD


class TwoMatrices(nn.Module):
    """y = W_down f(W_up x), where f is gelu (arXiv:1606.08415) or relu² (So et al. 2021, arXiv:2109.08668)."""

    def __init__(self, hidden: int, inner: int, activation: Callable[[Tensor], Tensor], bias: bool = False) -> None:
        super().__init__()
        self.activation = activation
        self.up = nn.Linear(hidden, inner, bias)
        self.down = nn.Linear(inner, hidden, bias)

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        y_BTD: Tensor = self.down(self.activation(self.up(x_BTD)))
        return y_BTD


def relu2(x_BTF: Tensor) -> Tensor:
    return F.relu(x_BTF).square()


def build_feed_forward(spec: FeedForward, hidden: int) -> SwiGLU | TwoMatrices | None:
    match spec.kind:
        case "swiglu":
            return SwiGLU(hidden, spec.inner(hidden), spec.bias)
        case "gelu":
            return TwoMatrices(hidden, spec.inner(hidden), F.gelu, spec.bias)
        case "relu2":
            return TwoMatrices(hidden, spec.inner(hidden), relu2, spec.bias)
        case "none":
            return None


class Places(nn.Module):
    """Adds a vector to the token at each place."""

    places_CD: Tensor

    def forward(self, x_BTD: Float[Tensor, "B T D"], start: int = 0) -> Float[Tensor, "B T D"]:
        end = start + x_BTD.size(1)
        check_fits(end, self.places_CD.size(0))
        return x_BTD + self.places_CD[start:end]


class Learned(Places):
    """Learns the vectors (Gehring et al. 2017, arXiv:1705.03122)."""

    def __init__(self, hidden: int, context: int) -> None:
        super().__init__()
        self.places_CD = nn.Parameter(torch.randn(context, hidden) * 0.1)

    @torch.no_grad()
    def start_sinusoidal(self) -> None:
        """Sets the vectors to `sinusoids`, from which near places can be told from far ones at the first step."""
        self.places_CD.copy_(sinusoids(*self.places_CD.shape))


class Sinusoidal(Places):
    """Adds the vectors of `sinusoids`, and learns nothing."""

    def __init__(self, hidden: int, context: int) -> None:
        super().__init__()
        self.register_buffer("places_CD", sinusoids(context, hidden), persistent=False)


def sinusoids(context: int, hidden: int) -> Float[Tensor, "C D"]:
    """Returns sin(t · 10000^(−i/(D/2))) in the first half of vector t, cos in the second (arXiv:1706.03762, §3.5)."""
    half = (hidden + 1) // 2
    angle_CE = torch.outer(torch.arange(context), 10_000.0 ** (-torch.arange(half) / half))
    return torch.cat((angle_CE.sin(), angle_CE.cos()), dim=1)[:, :hidden]


ADDED = {"learned": Learned, "sinusoidal": Sinusoidal}
"""The positions that are added to the tokens; attention handles the others."""


class TransformerBlock(nn.Module):
    """Applies attention, attention to the source if there is one, and feed-forward, each with a norm and a residual.

    sequential: x + f(norm(x)), one after the other. parallel: x + Σ f(norm(x)) with one norm for all. post: norm(x +
    f(x)), one after the other. A part that the block lacks is left out and costs nothing.
    """

    def __init__(self, block: Block, hidden: int, context: int, causal: bool = True) -> None:
        super().__init__()
        self.residual, self.attends = block.residual, block.attention.kind != "none"
        self.attention: Attention[Any] = attention.build(block.attention, hidden, context, causal, block.position)
        self.cross: Attention[Any] | None = None
        if block.cross:
            self.cross = attention.build(block.cross, hidden, context, causal=False, position="none")
        self.feed_forward = build_feed_forward(block.feed_forward, hidden)
        branches = self.attends + (self.cross is not None) + (self.feed_forward is not None)
        norms = 1 if self.residual == "parallel" else branches
        self.norms = nn.ModuleList(build_norm(block.norm, hidden) for _ in range(norms))

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        padding_BT: Bool[Tensor, "B T"] | None = None,
        memory: Memory | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Computes the output.

        `padding` is True at tokens of x to ignore; `memory` is what `cross` remembers of the source.
        """
        if not self.attends:
            check_fits(x_BTD.size(1), self.attention.context)
        return self._add(x_BTD, partial(self.attention, padding_BT=padding_BT), self._recaller(memory))

    def step(self, x_BTD: Float[Tensor, "B T D"], state: State, memory: Memory | None = None) -> Float[Tensor, "B T D"]:
        """Computes the output of T new tokens after those that the state holds."""
        if not self.attends:
            state.advance(x_BTD.size(1))
        return self._add(x_BTD, partial(self.attention.step, state=state), self._recaller(memory))

    def show(
        self,
        x_BTD: Float[Tensor, "B T D"],
        padding_BT: Bool[Tensor, "B T"] | None = None,
        source_BSD: Float[Tensor, "B S D"] | None = None,
        padding_BS: Bool[Tensor, "B S"] | None = None,
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T T"] | None, Float[Tensor, "B G T S"] | None]:
        """Returns the output of `forward`, the attention's weights, and the weights of the attention to the source.

        Weights are None where there are none to show.
        """
        read: dict[str, Tensor] = {}

        def noted(name: str, branch: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            def run(x_BTD: Tensor) -> Tensor:
                read[name] = x_BTD
                return branch(x_BTD)

            return run

        attend = noted("own", partial(self.attention, padding_BT=padding_BT))
        crossed = partial(self.cross, memory_BSD=source_BSD, padding_BT=padding_BS) if self.cross else None
        y_BTD = self._add(x_BTD, attend, noted("cross", crossed) if crossed else None)
        shown = self.attention.spec.weighs
        own_BHTT = self.attention.weights(read["own"], padding_BT=padding_BT) if shown else None
        cross_BGTS = self.cross.weights(read["cross"], source_BSD, padding_BS) if self.cross else None
        return y_BTD, own_BHTT, cross_BGTS

    def writers(self) -> list[nn.Linear]:
        """Returns the matrices that write to the residual stream."""
        crossed = self.cross.out if self.cross else None
        fed = self.feed_forward.down if self.feed_forward else None
        return [writer for writer in (self.attention.out, crossed, fed) if writer is not None]

    def flops(self, tokens: int, source: int | None = None) -> int:
        """Counts the FLOPs of the matrix products over one sequence, and over `source` tokens of a source."""
        linear = [m for m in self.feed_forward.children() if isinstance(m, nn.Linear)] if self.feed_forward else []
        own = self.attention.flops(tokens) + sum(2 * tokens * m.in_features * m.out_features for m in linear)
        return own + (self.cross.flops(tokens, source) if self.cross else 0)

    def _recaller(self, memory: Memory | None) -> Callable[[Tensor], Tensor] | None:
        if self.cross is None or memory is None:
            return None
        return partial(self.cross.recall, memory=memory)

    def _add(
        self, x_BTD: Tensor, attend: Callable[[Tensor], Tensor], recall: Callable[[Tensor], Tensor] | None
    ) -> Tensor:
        """Adds to x the outputs of attention, of attention to the source and of the feed-forward."""
        possible = (attend if self.attends else None, recall, self.feed_forward)
        branches = [branch for branch in possible if branch is not None]
        if self.residual == "parallel":
            normed_BTD = self.norms[0](x_BTD)
            return sum((branch(normed_BTD) for branch in branches), x_BTD)
        for norm, branch in zip(self.norms, branches, strict=True):
            x_BTD = norm(x_BTD + branch(x_BTD)) if self.residual == "post" else x_BTD + branch(norm(x_BTD))
        return x_BTD
