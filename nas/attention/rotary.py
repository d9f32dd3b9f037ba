"""Defines rotary positions: a token's place turns its queries and keys, so that scores depend on distances alone.

Shapes: B batch, T tokens, N heads, C context, E head size.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nas.attention.state import check_fits


class Rotary(nn.Module):
    """Turns (a, b) to (a·cos tθ − b·sin tθ, b·cos tθ + a·sin tθ) at position t (Su et al. 2021, arXiv:2104.09864).

    The pairs (a, b) are values i and i + E/2 of a head, θ = base^(−2i/E). Lengths do not change.
    """

    cos_C1E: Tensor
    sin_C1E: Tensor

    def __init__(self, head_size: int, context: int, base: float = 10_000.0) -> None:
        super().__init__()
        angle = torch.outer(torch.arange(context), base ** (-torch.arange(0, head_size, 2) / head_size))
        cos, sin = angle.cos(), angle.sin()
        # Stored with both signs, so that a turn is two products and one roll.
        self.register_buffer("cos_C1E", torch.cat((cos, cos), dim=-1)[:, None], persistent=False)
        self.register_buffer("sin_C1E", torch.cat((-sin, sin), dim=-1)[:, None], persistent=False)

    def forward(self, heads_BTNE: Float[Tensor, "B T N E"], start: int = 0) -> Float[Tensor, "B T N E"]:
        """Turns T tokens, the first of which stands at position `start`."""
        end = start + heads_BTNE.size(1)
        check_fits(end, self.cos_C1E.size(0))
        swapped_BTNE = heads_BTNE.roll(heads_BTNE.size(-1) // 2, dims=-1)
        # In place, since nobody else reads the product: over long sequences new memory costs more than the sum.
        return (heads_BTNE * self.cos_C1E[start:end]).addcmul_(swapped_BTNE, self.sin_C1E[start:end])
