"""What every attention mechanism is made of, and what it promises.

Shapes: B batch, T tokens, S tokens attended to, D hidden = H·E, H heads, K heads of keys and values, E head size.
Heads of queries and keys lie side by side in one tensor where both take the same step: M = H + K.
"""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nas.architecture import Grouped, Headed
from nas.attention.rotary import Rotary
from nas.attention.stacked import Stacked
from nas.attention.state import State
from nas.errors import UsageError

AnyState = TypeVar("AnyState", bound=State)


class Attention(nn.Module, ABC, Generic[AnyState]):
    """y = W_out · mix(W_qkv · x): one matrix makes queries, keys and values of all heads, one joins the heads again.

    A kind says how the heads mix tokens: `forward` over whole sequences, `step` over new tokens and a state. Both give
    the same outputs, the future never changes the past, ignored tokens change nothing, and the stated costs are the
    real ones (tests/attention/test_attention_contract.py).
    """

    def __init__(self, spec: Headed, hidden: int, context: int, causal: bool = True) -> None:
        super().__init__()
        self.hidden, self.context, self.causal = hidden, context, causal
        self.heads, self.head_size = spec.heads, hidden // spec.heads
        self.kv_heads = spec.kv_heads if isinstance(spec, Grouped) else spec.heads
        kv_size = self.kv_heads * self.head_size
        self.qkv = Stacked(hidden, (hidden, kv_size, kv_size))
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.rotary = Rotary(self.head_size, context)

    @abstractmethod
    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        memory_BSD: Float[Tensor, "B S D"] | None = None,
        padding_BT: Bool[Tensor, "B _"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Attend within x, or from x to a memory (cross-attention: neither causal nor with positions).

        `padding_BT` is True at tokens to ignore, of the memory if there is one, else of x. Outputs at ignored
        tokens mean nothing, but are finite.
        """

    def new_state(self, batch: int, context: int) -> AnyState:
        """An empty state for sequences of up to `context` tokens, on the device and in the dtype of this module."""
        if not self.causal:
            raise UsageError("attention built with causal=False sees the future, and cannot decode token by token")
        if not 1 <= context <= self.context:
            raise UsageError(f"context={context} of a decode state must be 1 to {self.context}, as the model was built")
        return self._empty_state(batch, context)

    @abstractmethod
    def step(self, x_BTD: Float[Tensor, "B T D"], state: AnyState) -> Float[Tensor, "B T D"]:
        """Attend causally from T new tokens to all so far: the prompt in prefill, one token in decoding."""

    @abstractmethod
    def flops(self, tokens: int) -> int:
        """Matrix products of `forward` over one sequence of `tokens`, within itself; a multiply-add counts as two."""

    @abstractmethod
    def state_bytes(self, batch: int, context: int) -> int:
        """The size of `new_state(batch, context)`."""

    @abstractmethod
    def _empty_state(self, batch: int, context: int) -> AnyState:
        """`new_state` for a context that fits."""

    def _project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys side by side (B, T, M, E), ready to compare but for their positions; values (B, T, K, E)."""
        B, T, _ = x_BTD.shape
        heads = self.qkv(x_BTD).view(B, T, -1, self.head_size)
        qk_BTME, v_BTKE = heads.split((self.heads + self.kv_heads, self.kv_heads), dim=2)
        return self._feature(qk_BTME, slice(None)), v_BTKE

    def _project_turned(self, x_BTD: Tensor, start: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, T, H, E), keys and values (B, T, K, E) of tokens from position `start` on."""
        qk_BTME, v_BTKE = self._project(x_BTD)
        q_BTHE, k_BTKE = self.rotary(qk_BTME, start).split((self.heads, self.kv_heads), dim=2)
        return q_BTHE, k_BTKE, v_BTKE

    def _project_across(self, x_BTD: Tensor, memory_BSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of x (B, T, H, E); keys and values of the memory (B, S, K, E)."""
        W_q, W_kv = self.qkv.weight.tensor_split((self.hidden,))
        q_BTHE = F.linear(x_BTD, W_q).view(*x_BTD.shape[:2], self.heads, -1)
        k_BSKE, v_BSKE = F.linear(memory_BSD, W_kv).view(*memory_BSD.shape[:2], 2 * self.kv_heads, -1).chunk(2, dim=2)
        return self._feature(q_BTHE, slice(self.heads)), self._feature(k_BSKE, slice(self.heads, None)), v_BSKE

    def _feature(self, qk_BTME: Tensor, heads: slice) -> Tensor:
        """What is compared in place of queries and keys; `heads` says which of the M are given."""
        return qk_BTME

    def _join(self, y_BTD: Tensor) -> Tensor:
        joined_BTD: Tensor = self.out(y_BTD)
        return joined_BTD

    def _projection_flops(self, tokens: int) -> int:
        return 4 * tokens * self.hidden * (self.heads + self.kv_heads) * self.head_size

    def _new(self, *shape: int) -> Tensor:
        """Zeros on the device and in the dtype that this module computes in."""
        return self.rotary.cos_C1E.new_zeros(shape)

    def _cache_bytes(self, batch: int, tokens: int) -> int:
        return 2 * batch * tokens * self.kv_heads * self.head_size * self.rotary.cos_C1E.element_size()
