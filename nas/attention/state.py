"""Holds what decoding remembers: tensors made once for a context and filled in place.

Shapes: B batch, T new tokens, S tokens to attend to, C context (or window), H heads, K heads of keys and values, E head
size, F features of a key. Keys are stored with their positions, so that a cached key never changes.
"""

from copy import copy
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import torch
from torch import Tensor

from nas.errors import UsageError


def select(held: Any, rows_N: Tensor) -> Any:
    """Returns a state or a memory of these rows of its batch, in this order; a row may come several times.

    Every tensor of a state has the batch first, so that no kind has to help.
    """
    if isinstance(held, Tensor):
        return held[rows_N]
    if isinstance(held, list):
        return [select(part, rows_N) for part in held]
    if is_dataclass(held):
        chosen = copy(held)
        vars(chosen).update({name: select(part, rows_N) for name, part in vars(held).items()})
        return chosen
    return held


def check_fits(tokens: int, context: int) -> None:
    """Raises UsageError when so many tokens are more than the context."""
    if tokens > context:
        raise UsageError(
            f"{tokens} tokens exceed context={context}, for which the model was built",
            code="context-full",
            help="shorten the sequence, or build with a larger context",
        )


@dataclass
class State:
    """Counts the tokens that were seen, of at most `context`."""

    context: int
    length: int = field(default=0, init=False)

    def advance(self, tokens: int) -> int:
        """Counts T more tokens and returns the position of the first. Raises UsageError when they do not fit."""
        start, end = self.length, self.length + tokens
        if end > self.context:
            raise UsageError(
                f"{start} tokens seen and {tokens} more exceed the decode state's context={self.context}",
                code="context-full",
                help="make a state with a larger context, or start a new one from the last tokens",
            )
        self.length = end
        return start


@dataclass(frozen=True)
class Memory:
    """Holds what cross-attention reads: keys and values of a memory, and which of its tokens are real (None: all)."""

    keys_BSKE: Tensor
    values_BSKE: Tensor
    visible_B11S: Tensor | None = None


@dataclass
class KeyValueCache(State):
    """Holds keys and values of all tokens so far, in order."""

    keys_BKCE: Tensor
    values_BKCE: Tensor

    def append(self, start: int, k_BTKE: Tensor, v_BTKE: Tensor) -> tuple[Tensor, Tensor]:
        """Stores T tokens from position `start` on and returns all S = start + T, (B, K, S, E), uncopied."""
        T = k_BTKE.size(1)
        self.keys_BKCE.narrow(2, start, T).copy_(k_BTKE.transpose(1, 2))
        self.values_BKCE.narrow(2, start, T).copy_(v_BTKE.transpose(1, 2))
        return self.keys_BKCE.narrow(2, 0, start + T), self.values_BKCE.narrow(2, 0, start + T)


@dataclass
class RingCache(State):
    """Holds keys and values of the `first` tokens for good, and of the last C − first tokens after them.

    Position t lies in slot t while t < first, then in slot first + (t − first) mod (C − first).
    """

    keys_BKCE: Tensor
    values_BKCE: Tensor
    first: int = 0

    def append_one(self, start: int, k_B1KE: Tensor, v_B1KE: Tensor) -> tuple[Tensor, Tensor]:
        """Stores the token at position `start` over the oldest one, and returns all held tokens, in no order."""
        slot = start if start < self.first else self.first + (start - self.first) % self._ring
        self.keys_BKCE.narrow(2, slot, 1).copy_(k_B1KE.transpose(1, 2))
        self.values_BKCE.narrow(2, slot, 1).copy_(v_B1KE.transpose(1, 2))
        held = min(start + 1, self.keys_BKCE.size(2))
        return self.keys_BKCE.narrow(2, 0, held), self.values_BKCE.narrow(2, 0, held)

    def append(self, start: int, k_BTKE: Tensor, v_BTKE: Tensor, held: int) -> tuple[Tensor, Tensor]:
        """Stores T tokens from position `start` on; returns them behind the `held` before, (B, S, K, E), in order."""
        T, first, device = k_BTKE.size(1), self.first, self.keys_BKCE.device
        before_k_BKSE, before_v_BKSE = self.at(torch.arange(start - held, start, device=device))
        k_BSKE = torch.cat((before_k_BKSE.transpose(1, 2), k_BTKE), dim=1)
        v_BSKE = torch.cat((before_v_BKSE.transpose(1, 2), v_BTKE), dim=1)
        # A slot is written once, by the last token that belongs there.
        leading_T = torch.arange(min(T, max(0, first - start)), device=device)
        last_T = torch.arange(max(len(leading_T), T - self._ring), T, device=device)
        new_T = torch.cat((leading_T, last_T))
        slots_T = self._slots(start + new_T)
        self.keys_BKCE[:, :, slots_T] = k_BTKE[:, new_T].transpose(1, 2)
        self.values_BKCE[:, :, slots_T] = v_BTKE[:, new_T].transpose(1, 2)
        return k_BSKE, v_BSKE

    def at(self, positions_S: Tensor) -> tuple[Tensor, Tensor]:
        """Returns keys and values (B, K, S, E) of tokens that are held."""
        slots_S = self._slots(positions_S)
        return self.keys_BKCE.index_select(2, slots_S), self.values_BKCE.index_select(2, slots_S)

    def leading(self) -> tuple[Tensor, Tensor]:
        """Returns keys and values of those of the `first` tokens that were seen, (B, G, K, E)."""
        seen = min(self.first, self.length)
        return self.keys_BKCE[:, :, :seen].transpose(1, 2), self.values_BKCE[:, :, :seen].transpose(1, 2)

    def positions(self) -> Tensor:
        """Returns the position of each slot's token, up to the last slot that holds one."""
        last = self.length - 1
        slots_S = torch.arange(min(self.length, self.keys_BKCE.size(2)), device=self.keys_BKCE.device)
        return torch.where(slots_S < self.first, slots_S, last - (last - slots_S) % self._ring)

    @property
    def _ring(self) -> int:
        return self.keys_BKCE.size(2) - self.first

    def _slots(self, positions_S: Tensor) -> Tensor:
        return torch.where(positions_S < self.first, positions_S, self.first + (positions_S - self.first) % self._ring)


@dataclass
class Sums(State):
    """Keeps the sums of kernel attention, Σ ψ(k) vᵀ and Σ φ(k), where ψ is φ with positions; the size is constant."""

    products_BHFE: Tensor
    keys_BHF: Tensor

    def add(self, placed_k_BTHF: Tensor, v_BTHE: Tensor, k_BTHF: Tensor) -> None:
        """Counts T tokens in."""
        self.products_BHFE.add_(placed_k_BTHF.permute(0, 2, 3, 1) @ v_BTHE.transpose(1, 2))
        self.keys_BHF.add_(k_BTHF.sum(1))

    def add_one(self, placed_k_B1HF: Tensor, v_B1HE: Tensor, k_B1HF: Tensor) -> tuple[Tensor, Tensor]:
        """Counts one token in and returns both sums."""
        self.products_BHFE.addcmul_(placed_k_B1HF.squeeze(1)[..., None], v_B1HE.transpose(1, 2))
        self.keys_BHF.add_(k_B1HF.squeeze(1))
        return self.products_BHFE, self.keys_BHF
