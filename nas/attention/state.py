"""What decoding remembers: tensors made once for a context and filled in place.

Shapes: B batch, T new tokens, S tokens to attend to, C context (or window), H heads, K heads of keys and values,
E head size. Positions are turned into keys before they are stored, so that a cached key is final.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from nas.errors import UsageError


@dataclass
class State:
    """How many tokens were seen, of at most `context`."""

    context: int
    length: int = field(default=0, init=False)

    def advance(self, tokens: int) -> int:
        """Count T more tokens and return the position of the first. Raises UsageError when they do not fit."""
        start, end = self.length, self.length + tokens
        if end > self.context:
            raise UsageError(
                f"{start} tokens seen and {tokens} more exceed the decode state's context={self.context}",
                code="context-full",
                help="make a state with a larger context, or start a new one from the last tokens",
            )
        self.length = end
        return start


@dataclass
class KeyValueCache(State):
    """Keys and values of all tokens so far, in order."""

    keys_BKCE: Tensor
    values_BKCE: Tensor

    def append(self, start: int, k_BTKE: Tensor, v_BTKE: Tensor) -> tuple[Tensor, Tensor]:
        """Store T tokens from position `start` on and return all S = start + T, (B, K, S, E), uncopied."""
        T = k_BTKE.size(1)
        self.keys_BKCE.narrow(2, start, T).copy_(k_BTKE.transpose(1, 2))
        self.values_BKCE.narrow(2, start, T).copy_(v_BTKE.transpose(1, 2))
        return self.keys_BKCE.narrow(2, 0, start + T), self.values_BKCE.narrow(2, 0, start + T)


@dataclass
class RingCache(State):
    """Keys and values of the last C = min(window, context) tokens: position t lies in slot t mod C."""

    keys_BKCE: Tensor
    values_BKCE: Tensor

    def append_one(self, start: int, k_B1KE: Tensor, v_B1KE: Tensor) -> tuple[Tensor, Tensor]:
        """Store the token at position `start`, over the oldest one, and return all that are held, in no order."""
        C = self.keys_BKCE.size(2)
        held = min(start + 1, C)
        self.keys_BKCE.narrow(2, start % C, 1).copy_(k_B1KE.transpose(1, 2))
        self.values_BKCE.narrow(2, start % C, 1).copy_(v_B1KE.transpose(1, 2))
        return self.keys_BKCE.narrow(2, 0, held), self.values_BKCE.narrow(2, 0, held)

    def append(self, start: int, k_BTKE: Tensor, v_BTKE: Tensor) -> tuple[Tensor, Tensor]:
        """Store T tokens from position `start` on; return them behind those held before, (B, S, K, E), in order."""
        T, C = k_BTKE.size(1), self.keys_BKCE.size(2)
        before = self._slots(max(0, start - C), start)
        k_BSKE = torch.cat((self.keys_BKCE[:, :, before].transpose(1, 2), k_BTKE), dim=1)
        v_BSKE = torch.cat((self.values_BKCE[:, :, before].transpose(1, 2), v_BTKE), dim=1)
        kept = min(T, C)
        slots = self._slots(start + T - kept, start + T)
        self.keys_BKCE[:, :, slots] = k_BTKE[:, T - kept :].transpose(1, 2)
        self.values_BKCE[:, :, slots] = v_BTKE[:, T - kept :].transpose(1, 2)
        return k_BSKE, v_BSKE

    def _slots(self, start: int, end: int) -> Tensor:
        return torch.arange(start, end, device=self.keys_BKCE.device) % self.keys_BKCE.size(2)


@dataclass
class Sums(State):
    """What linear attention keeps: Σ k vᵀ with turned keys, and Σ φ(k). Of one size, whatever the context."""

    products_BHEE: Tensor
    keys_BHE: Tensor

    def add(self, turned_k_BTHE: Tensor, v_BTHE: Tensor, k_BTHE: Tensor) -> None:
        """Count T tokens in."""
        self.products_BHEE.add_(turned_k_BTHE.permute(0, 2, 3, 1) @ v_BTHE.transpose(1, 2))
        self.keys_BHE.add_(k_BTHE.sum(1))

    def add_one(self, turned_k_B1HE: Tensor, v_B1HE: Tensor, k_B1HE: Tensor) -> tuple[Tensor, Tensor]:
        """Count one token in and return both sums."""
        self.products_BHEE.addcmul_(turned_k_B1HE.squeeze(1)[..., None], v_B1HE.transpose(1, 2))
        self.keys_BHE.add_(k_B1HE.squeeze(1))
        return self.products_BHEE, self.keys_BHE
