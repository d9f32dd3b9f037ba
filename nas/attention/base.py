"""Defines the interface of every attention mechanism, and the frame that those with heads share.

Shapes: B batch, T tokens, S tokens attended to, D hidden, H heads, K heads of keys and values, E head size. Heads of
queries and keys lie side by side in one tensor where both take the same step: M = H + K.
"""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nas.attention.alibi import Alibi
from nas.attention.rotary import Rotary
from nas.attention.stacked import Stacked
from nas.attention.state import Memory, State, check_fits
from nas.errors import UsageError
from nas.kinds import Grouped, Headed, Kind, Position, Softmax

AnyState = TypeVar("AnyState", bound=State)


class Attention(nn.Module, ABC, Generic[AnyState]):
    """Mixes tokens: `forward` over whole sequences, `step` over new tokens and a state, with the same outputs.

    The future never changes the past, ignored tokens change nothing, and the stated costs are the real ones
    (tests/attention/test_attention_contract.py). A kind with the cross form also has `remember` and `recall`.
    """

    out: nn.Linear | None
    """The matrix that writes the result, or None; a model scales it by its depth."""

    def __init__(self, spec: Kind, hidden: int, context: int, causal: bool, position: Position) -> None:
        super().__init__()
        self.spec, self.hidden, self.context = spec, hidden, context
        self.causal, self.position = causal, position

    @abstractmethod
    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        memory_BSD: Float[Tensor, "B S D"] | None = None,
        padding_BT: Bool[Tensor, "B _"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Attends within x, or from x to a memory (cross-attention: neither causal nor with positions).

        `padding_BT` is True at the tokens to ignore: those of the memory if there is one, else those of x. Outputs at
        ignored tokens mean nothing, but are finite.
        """

    @abstractmethod
    def step(self, x_BTD: Float[Tensor, "B T D"], state: AnyState) -> Float[Tensor, "B T D"]:
        """Attends causally from T new tokens to all tokens so far: T is the prompt in prefill, 1 in decoding."""

    def new_state(self, batch: int, context: int) -> AnyState:
        """Makes an empty state for sequences of up to `context` tokens, with the device and dtype of this module."""
        if not self.causal:
            raise UsageError("attention built with causal=False sees the future, and cannot decode token by token")
        if not 1 <= context <= self.context:
            raise UsageError(f"context={context} of a decode state must be 1 to {self.context}, as the model was built")
        return self._empty_state(batch, context)

    @abstractmethod
    def state_bytes(self, batch: int, context: int) -> int:
        """Counts the bytes of `new_state(batch, context)`."""

    @abstractmethod
    def flops(self, tokens: int, source: int | None = None) -> int:
        """Counts the FLOPs of the matrix products of `forward` over one sequence; a multiply-add counts as two.

        The sequence of `tokens` attends within itself, or to a memory of `source` tokens.
        """

    def remember(self, memory_BSD: Tensor, padding_BS: Tensor | None = None) -> Memory:
        """Computes what cross-attention reads of a memory, once; every step recalls it."""
        raise self._has_no("cross form: its tokens have no place in another sequence")

    def recall(self, x_BTD: Tensor, memory: Memory) -> Tensor:
        """Computes `forward(x, memory, padding)` from what `remember` made."""
        raise self._has_no("cross form: its tokens have no place in another sequence")

    def memory_bytes(self, batch: int, source: int) -> int:
        """Counts the bytes that `remember` makes of `source` tokens, without the padding mask."""
        raise self._has_no("cross form: its tokens have no place in another sequence")

    def weights(
        self, x_BTD: Tensor, memory_BSD: Tensor | None = None, padding_BT: Tensor | None = None
    ) -> Float[Tensor, "B H T S"]:
        """Returns the share of each token s in the output of token t, for each head, as `forward` uses it.

        Explicit kinds return exactly what they multiply values by. Kinds without a softmax return the implied weights
        divided by the sum of their sizes. Raises UsageError for a kind that has none.
        """
        raise self._has_no("attention weights to show")

    @abstractmethod
    def _empty_state(self, batch: int, context: int) -> AnyState:
        """Makes the state of `new_state`, for a context that fits."""

    def _check_fits(self, tokens: int) -> None:
        check_fits(tokens, self.context)

    def _has_no(self, what: str) -> UsageError:
        return UsageError(f"{self.spec.kind} attention has no {what}", code="attention-form")

    def _new(self, *shape: int) -> Tensor:
        """Makes zeros on the device and in the dtype of this module."""
        return next(self.parameters()).new_zeros(shape)

    def _item_bytes(self) -> int:
        return next(self.parameters()).element_size()


class HeadedAttention(Attention[AnyState]):
    """y = W_out · mix(W_qkv · x): one matrix makes queries, keys and values of all heads, one joins the heads again."""

    out: nn.Linear

    def __init__(self, spec: Headed, hidden: int, context: int, causal: bool, position: Position) -> None:
        super().__init__(spec, hidden, context, causal, position)
        self.heads, self.head_size = spec.heads, spec.size(hidden)
        self.kv_heads = spec.kv_heads if isinstance(spec, Grouped) else spec.heads
        self.width, self.kv_width = self.heads * self.head_size, self.kv_heads * self.head_size
        bias = isinstance(spec, Softmax) and spec.bias
        self.qkv = Stacked(hidden, (self.width, self.kv_width, self.kv_width), bias)
        self.qkv.head_rows = self.head_size
        self.out = nn.Linear(self.width, hidden, bias=bias)
        self.rotary = Rotary(self.head_size, context) if position == "rope" else None
        self.alibi = Alibi(self.heads) if position == "alibi" else None

    def _project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Returns queries and keys side by side (B, T, M, E), without positions, and values (B, T, K, E)."""
        B, T, _ = x_BTD.shape
        heads = self.qkv(x_BTD).view(B, T, -1, self.head_size)
        qk_BTME, v_BTKE = heads.split((self.heads + self.kv_heads, self.kv_heads), dim=2)
        return self._feature(qk_BTME, slice(None)), v_BTKE

    def _project_turned(self, x_BTD: Tensor, start: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries (B, T, H, E), keys and values (B, T, K, E) of tokens from position `start` on."""
        qk_BTME, v_BTKE = self._project(x_BTD)
        q_BTHE, k_BTKE = self._turn(qk_BTME, start).tensor_split((self.heads,), dim=2)
        return q_BTHE, k_BTKE, v_BTKE

    def _turn(self, qk_BTME: Tensor, start: int = 0) -> Tensor:
        """Turns them by their positions, where positions are rotary."""
        if self.rotary is None:
            self._check_fits(start + qk_BTME.size(1))
            return qk_BTME
        turned_BTME: Tensor = self.rotary(qk_BTME, start)
        return turned_BTME

    def _project_queries(self, x_BTD: Tensor) -> Tensor:
        """Returns queries alone (B, T, H, E), without positions, for cross-attention."""
        q_BTD = F.linear(x_BTD, self.qkv.weight[: self.width], self._bias_of(slice(self.width)))
        return self._feature(q_BTD.view(*x_BTD.shape[:2], self.heads, -1), slice(self.heads))

    def _project_memory(self, memory_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Returns keys and values of a memory (B, S, K, E), without positions."""
        # Two products, since a kept part of one must not keep the storage of the other.
        keys, values = slice(self.width, self.width + self.kv_width), slice(self.width + self.kv_width, None)
        k_BSKE, v_BSKE = (
            F.linear(memory_BSD, self.qkv.weight[rows], self._bias_of(rows)).view(
                *memory_BSD.shape[:2], self.kv_heads, -1
            )
            for rows in (keys, values)
        )
        return self._feature(k_BSKE, slice(self.heads, None)), v_BSKE

    def _bias_of(self, rows: slice) -> Tensor | None:
        return None if self.qkv.bias is None else self.qkv.bias[rows]

    def _feature(self, qk_BTME: Tensor, heads: slice) -> Tensor:
        """Returns what is compared in place of queries and keys; `heads` says which of the M are given."""
        return qk_BTME

    def _join(self, y_BTD: Tensor) -> Tensor:
        joined_BTD: Tensor = self.out(y_BTD)
        return joined_BTD

    def _projection_flops(self, tokens: int, source: int | None = None) -> int:
        """Counts the FLOPs of W_qkv and W_out: queries and outputs for `tokens`, keys and values for `source` tokens.

        By default `source` equals `tokens`.
        """
        source = tokens if source is None else source
        return 4 * self.hidden * (tokens * self.width + source * self.kv_width)

    def _cache_bytes(self, batch: int, tokens: int) -> int:
        """Counts the bytes of keys and values of so many tokens."""
        return 2 * batch * tokens * self.kv_width * self._item_bytes()
