"""Stacks LSTM layers that read one way, or both ways as an encoder.

Shapes: B batch, T tokens, S tokens of a source, D hidden.
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nas import attention
from nas.architecture import Block
from nas.attention import Attention
from nas.models.stack import StackState, initialise_matrices


class LstmStack(nn.Module):
    """y = LSTM_N(… LSTM_1(x)): each layer reads the outputs of the one below, without norms and residuals."""

    def __init__(self, blocks: Sequence[Block], hidden: int, context: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(attention.build(block.attention, hidden, context) for block in blocks)

    def initialise(self) -> None:
        initialise_matrices(self)

    def forward(
        self, x_BTD: Float[Tensor, "B T D"], padding_BT: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T D"]:
        for layer in self._each():
            x_BTD = layer(x_BTD, padding_BT=padding_BT)
        return x_BTD

    def step(self, x_BTD: Float[Tensor, "B T D"], state: StackState) -> Float[Tensor, "B T D"]:
        """Computes the output of T new tokens after those that the state holds."""
        for layer, held in zip(self._each(), state.layers, strict=True):
            x_BTD = layer.step(x_BTD, held)
        return x_BTD

    def new_state(self, batch: int, context: int) -> StackState:
        return StackState([layer.new_state(batch, context) for layer in self._each()])

    def attention_maps(self, x_BTD: Tensor) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """Returns None for every layer: an LSTM has no weights to show."""
        return [None] * len(self.layers), [None] * len(self.layers)

    def flops(self, tokens: int) -> int:
        return sum(layer.flops(tokens) for layer in self._each())

    def state_bytes(self, batch: int, context: int) -> int:
        return sum(layer.state_bytes(batch, context) for layer in self._each())

    def _each(self) -> Iterable[Attention[Any]]:
        return cast("Iterable[Attention[Any]]", self.layers)


class LstmEncoder(nn.Module):
    """y = LSTM_N(… LSTM_2(W [→LSTM_1(x); ←LSTM_1(x)])): the first layer reads both ways (GNMT, arXiv:1609.08144)."""

    def __init__(self, blocks: Sequence[Block], hidden: int, context: int) -> None:
        super().__init__()
        self.onwards, self.backwards = (attention.build(blocks[0].attention, hidden, context) for _ in range(2))
        self.join = nn.Linear(2 * hidden, hidden, bias=False)
        self.upper = LstmStack(blocks[1:], hidden, context)

    def forward(
        self, x_BSD: Float[Tensor, "B S D"], padding_BS: Bool[Tensor, "B S"] | None = None
    ) -> Float[Tensor, "B S D"]:
        # Ignored tokens leave an LSTM's state unchanged, so those in front of the reversed sequence do no harm.
        turned_BS = None if padding_BS is None else padding_BS.flip(1)
        onwards_BSD = self.onwards(x_BSD, padding_BT=padding_BS)
        backwards_BSD = self.backwards(x_BSD.flip(1), padding_BT=turned_BS).flip(1)
        y_BSD: Tensor = self.upper(self.join(torch.cat((onwards_BSD, backwards_BSD), dim=-1)), padding_BS)
        return y_BSD

    def flops(self, tokens: int) -> int:
        joined = 2 * tokens * self.join.in_features * self.join.out_features
        return self.onwards.flops(tokens) + self.backwards.flops(tokens) + joined + self.upper.flops(tokens)
