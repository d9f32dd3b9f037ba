"""Defines a long short-term memory, a recurrent network in place of attention.

Shapes: B batch, T tokens, D hidden.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from nas.attention.base import Attention
from nas.attention.stacked import Stacked
from nas.attention.state import State
from nas.kinds import Lstm, Position

FORGET_START = 1.0
"""The start of the forget gates' bias, so that a new network remembers (Gers et al. 2000,
doi:10.1162/089976600300015015)."""


@register_flop_formula(torch.ops.aten.mkldnn_rnn_layer)
def fused_flops(
    x_shape: Sequence[int], input_shape: Sequence[int], state_shape: Sequence[int], *_: object, **__: Any
) -> int:
    """Counts the FLOPs of PyTorch's kernel on CPUs: each of B·T tokens times both weights."""
    tokens = x_shape[0] * x_shape[1]
    return 2 * tokens * (input_shape[0] * input_shape[1] + state_shape[0] * state_shape[1])


@dataclass
class LstmState(State):
    """Holds the output at the last token, and the cells. Its size does not depend on the context."""

    output_BD: Tensor
    cell_BD: Tensor


class LstmAttention(Attention[LstmState]):
    """y_t = o ⊙ tanh(c_t), c_t = f ⊙ c_{t−1} + i ⊙ g; i, f, o = sigmoid and g = tanh of W x_t + U y_{t−1} + b.

    Hochreiter & Schmidhuber 1997 (doi:10.1162/neco.1997.9.8.1735), with the forget gate f of Gers et al. 2000
    (doi:10.1162/089976600300015015), whose bias starts at 1. The layer has the hidden size, and no matrix follows it.
    Ignored tokens leave the state unchanged.

    Time O(T·D²), one token after the other in PyTorch's fused kernel; decode state 2·D values, whatever the context.
    """

    start_4D: Tensor

    def __init__(self, spec: Lstm, hidden: int, context: int, causal: bool, position: Position) -> None:
        super().__init__(spec, hidden, context, causal, position)
        self.out = None
        self.input = Stacked(hidden, (hidden,) * 4, bias=True)
        self.recurrent = Stacked(hidden, (hidden,) * 4)
        nn.init.zeros_(self.input.bias)
        # PyTorch adds two biases; this fixed one is the start of the learned one.
        start_4D = torch.tensor([0, FORGET_START, 0, 0]).repeat_interleave(hidden)
        self.register_buffer("start_4D", start_4D, persistent=False)

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        memory_BSD: Float[Tensor, "B S D"] | None = None,
        padding_BT: Bool[Tensor, "B _"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        if memory_BSD is not None:
            return self.recall(x_BTD, self.remember(memory_BSD, padding_BT))
        self._check_fits(x_BTD.size(1))
        zeros_BD = x_BTD.new_zeros(x_BTD.size(0), self.hidden)
        if padding_BT is None:
            return self._run(x_BTD, zeros_BD, zeros_BD)[0]
        # Real tokens move to the front, so that none follows an ignored one.
        order_BTD = padding_BT.to(torch.uint8).argsort(dim=1, stable=True)[..., None].expand_as(x_BTD)
        y_BTD, _, _ = self._run(x_BTD.gather(1, order_BTD), zeros_BD, zeros_BD)
        return torch.zeros_like(y_BTD).scatter(1, order_BTD, y_BTD)

    def step(self, x_BTD: Float[Tensor, "B T D"], state: LstmState) -> Float[Tensor, "B T D"]:
        state.advance(x_BTD.size(1))
        if x_BTD.size(1) == 1:
            before = (state.output_BD, state.cell_BD)
            output_BD, cell_BD = torch.lstm_cell(x_BTD[:, 0], before, *self._weights())
            y_BTD = output_BD[:, None]
        else:
            y_BTD, output_BD, cell_BD = self._run(x_BTD, state.output_BD, state.cell_BD)
        # Replaced, not overwritten: in training step by step, gradients still need what this step read.
        state.output_BD, state.cell_BD = output_BD, cell_BD
        return y_BTD

    def flops(self, tokens: int, source: int | None = None) -> int:
        return 16 * tokens * self.hidden * self.hidden

    def state_bytes(self, batch: int, context: int) -> int:
        return 2 * batch * self.hidden * self._item_bytes()

    def _empty_state(self, batch: int, context: int) -> LstmState:
        return LstmState(context, self._new(batch, self.hidden), self._new(batch, self.hidden))

    def _run(self, x_BTD: Tensor, output_BD: Tensor, cell_BD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns outputs at all tokens, and output and cells at the last one.

        On a CPU, the kernel trains on 64 to 512 tokens 4 to 30 times as fast as a loop over them. It has no form for
        autocast, so it computes in the precision of the weights.
        """
        weights, place = self._weights(), x_BTD.device.type
        x_BTD, output_BD, cell_BD = (tensor.to(weights[0].dtype) for tensor in (x_BTD, output_BD, cell_BD))
        with nullcontext() if place == "meta" else torch.autocast(place, enabled=False):
            y_BTD, last_1BD, cell_1BD = torch.lstm(
                x_BTD,
                (output_BD[None], cell_BD[None]),
                weights,
                has_biases=True,
                num_layers=1,
                dropout=0.0,
                train=torch.is_grad_enabled(),
                bidirectional=False,
                batch_first=True,
            )
        return y_BTD, last_1BD[0], cell_1BD[0]

    def _weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.input.weight, self.recurrent.weight, self.input.bias, self.start_4D
