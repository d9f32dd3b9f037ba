"""Linear attention: a sum in place of a softmax, so that a state of fixed size remembers every token.

Shapes: B batch, T tokens, S tokens attended to, D hidden, H heads, E head size, N chunks of c tokens.
"""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nas.attention.base import Attention
from nas.attention.state import Sums

CHUNK = 64
"""Tokens compared with each other directly in the training form; what lies before them is summed first."""

EPSILON = 1e-6
"""Keeps the division finite where every feature is almost 0."""


class LinearAttention(Attention[Sums]):
    """y_t = Σ_s (R_t φ(q_t) · R_s φ(k_s)) v_s / Σ_s φ(q_t) · φ(k_s), over s ≤ t, with φ = ELU + 1.

    Katharopoulos et al. 2020 (arXiv:2006.16236). Rotary positions R turn the numerator alone, as in Su et al. 2021
    (arXiv:2104.09864, §3.3): features are positive, so the divisor stays so, though turned weights may be negative.

    Time O(T·(c + E)·D), in chunks of c tokens; decode state H·E·(E + 1) values, whatever the context.
    """

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        memory_BSD: Float[Tensor, "B S D"] | None = None,
        padding_BT: Bool[Tensor, "B _"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        if memory_BSD is not None:
            q_BTHE, k_BSHE, v_BSHE = self._project_across(x_BTD, memory_BSD)
            if padding_BT is not None:
                k_BSHE = k_BSHE.masked_fill(padding_BT[..., None, None], 0)
            return self._divide(_weigh_all(q_BTHE, k_BSHE, v_BSHE), q_BTHE, k_BSHE.sum(1, keepdim=True))
        qk_BTME, v_BTHE = self._project(x_BTD)
        if padding_BT is not None:
            qk_BTME = qk_BTME.masked_fill(padding_BT[..., None, None], 0)
        q_BTHE, k_BTHE = qk_BTME.chunk(2, dim=2)
        turned_q_BTHE, turned_k_BTHE = self.rotary(qk_BTME).chunk(2, dim=2)
        if self.causal:
            return self._divide(_weigh_past(turned_q_BTHE, turned_k_BTHE, v_BTHE), q_BTHE, k_BTHE.cumsum(1))
        return self._divide(_weigh_all(turned_q_BTHE, turned_k_BTHE, v_BTHE), q_BTHE, k_BTHE.sum(1, keepdim=True))

    def step(self, x_BTD: Float[Tensor, "B T D"], state: Sums) -> Float[Tensor, "B T D"]:
        start = state.advance(x_BTD.size(1))
        qk_BTME, v_BTHE = self._project(x_BTD)
        q_BTHE, k_BTHE = qk_BTME.chunk(2, dim=2)
        turned_q_BTHE, turned_k_BTHE = self.rotary(qk_BTME, start).chunk(2, dim=2)
        if x_BTD.size(1) == 1:
            products_BHEE, keys_BHE = state.add_one(turned_k_BTHE, v_BTHE, k_BTHE)
            weighted_BTHE = (turned_q_BTHE.transpose(1, 2) @ products_BHEE).transpose(1, 2)
            return self._divide(weighted_BTHE, q_BTHE, keys_BHE[:, None])
        weighted_BTHE = _weigh_past(turned_q_BTHE, turned_k_BTHE, v_BTHE, state.products_BHEE)
        sum_BTHE = k_BTHE.cumsum(1) + state.keys_BHE[:, None]
        state.add(turned_k_BTHE, v_BTHE, k_BTHE)
        return self._divide(weighted_BTHE, q_BTHE, sum_BTHE)

    def flops(self, tokens: int) -> int:
        if not self.causal:
            return self._projection_flops(tokens) + 4 * tokens * self.head_size * self.hidden
        chunk = min(tokens, CHUNK)
        chunks = -(-tokens // chunk)
        summed = self.head_size if chunks > 1 else 0
        return self._projection_flops(tokens) + 4 * chunks * chunk * (chunk + summed) * self.hidden

    def state_bytes(self, batch: int, context: int) -> int:
        return batch * self.hidden * (self.head_size + 1) * self.rotary.cos_C1E.element_size()

    def _empty_state(self, batch: int, context: int) -> Sums:
        H, E = self.heads, self.head_size
        return Sums(context, self._new(batch, H, E, E), self._new(batch, H, E))

    def _feature(self, qk_BTME: Tensor, heads: slice) -> Tensor:
        return F.elu(qk_BTME) + 1

    def _divide(self, weighted_BTHE: Tensor, q_BTHE: Tensor, sum_BTHE: Tensor) -> Tensor:
        """What was gathered over the divisor φ(q_t) · Σ_s φ(k_s), heads joined."""
        divisor_BTH1 = (q_BTHE * sum_BTHE).sum(-1, keepdim=True)
        return self._join((weighted_BTHE / (divisor_BTH1 + EPSILON)).flatten(2))


def _weigh_all(q_BTHE: Tensor, k_BSHE: Tensor, v_BSHE: Tensor) -> Tensor:
    """Σ_s (q_t · k_s) v_s over all s: (B, T, H, E)."""
    q_BHTE, k_BHSE, v_BHSE = (t.transpose(1, 2) for t in (q_BTHE, k_BSHE, v_BSHE))
    return (q_BHTE @ (k_BHSE.mT @ v_BHSE)).transpose(1, 2)


def _weigh_past(q_BTHE: Tensor, k_BTHE: Tensor, v_BTHE: Tensor, before_BHEE: Tensor | None = None) -> Tensor:
    """Σ_s (q_t · k_s) v_s over s ≤ t, and over the tokens whose k vᵀ are summed in `before`: (B, T, H, E)."""
    T = q_BTHE.size(1)
    chunk = min(T, CHUNK)
    q_BNHcE, k_BNHcE, v_BNHcE = (_chunks(t, chunk) for t in (q_BTHE, k_BTHE, v_BTHE))
    y_BNHcE = (q_BNHcE @ k_BNHcE.mT).tril() @ v_BNHcE
    if chunk < T or before_BHEE is not None:
        # The last chunk is summed too, for no one: leaving it out would cost a copy.
        sums_BNHEE = F.pad((k_BNHcE.mT @ v_BNHcE).cumsum(1)[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
        if before_BHEE is not None:
            sums_BNHEE = sums_BNHEE + before_BHEE[:, None]
        y_BNHcE = y_BNHcE + q_BNHcE @ sums_BNHEE
    return y_BNHcE.transpose(2, 3).flatten(1, 2)[:, :T]


def _chunks(tokens_BTHE: Tensor, chunk: int) -> Tensor:
    """(B, N, H, c, E), with zeros behind the last token: no features, so nothing is added to any sum."""
    missing = -tokens_BTHE.size(1) % chunk
    if missing:
        tokens_BTHE = F.pad(tokens_BTHE, (0, 0, 0, 0, 0, missing))
    B, T, H, E = tokens_BTHE.shape
    return tokens_BTHE.reshape(B, T // chunk, chunk, H, E).transpose(2, 3)
