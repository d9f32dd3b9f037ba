"""Defines the absence of attention: a block that mixes no tokens.

Shapes: B batch, T tokens, S tokens of a memory, D hidden.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nas.attention.base import Attention
from nas.attention.state import State
from nas.kinds import Kind, Position


class EmptyAttention(Attention[State]):
    """y_t = 0: a residual adds this to x, so that the block is its feed-forward alone.

    It has no parameters, matrix products or decode state; a Transformer block leaves the addition out too.
    """

    def __init__(self, spec: Kind, hidden: int, context: int, causal: bool, position: Position) -> None:
        super().__init__(spec, hidden, context, causal, position)
        self.out = None

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        memory_BSD: Float[Tensor, "B S D"] | None = None,
        padding_BT: Bool[Tensor, "B _"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        if memory_BSD is not None:
            return self.recall(x_BTD, self.remember(memory_BSD, padding_BT))
        self._check_fits(x_BTD.size(1))
        return torch.zeros_like(x_BTD)

    def step(self, x_BTD: Float[Tensor, "B T D"], state: State) -> Float[Tensor, "B T D"]:
        state.advance(x_BTD.size(1))
        return torch.zeros_like(x_BTD)

    def flops(self, tokens: int, source: int | None = None) -> int:
        return 0

    def state_bytes(self, batch: int, context: int) -> int:
        return 0

    def _empty_state(self, batch: int, context: int) -> State:
        return State(context)
