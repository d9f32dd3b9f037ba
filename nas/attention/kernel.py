"""Defines kernel attention: products of features replace the softmax, so a state of fixed size remembers every token.

Shapes: B batch, T tokens, S tokens attended to, D hidden, H heads, M = 2·H heads of queries and keys side by side, E
head size, F features of a query or key, N chunks of c tokens.
"""

from abc import abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nas.attention.base import HeadedAttention
from nas.attention.chunks import chunked, segments
from nas.attention.state import Memory, Sums
from nas.kinds import Headed, Position

CHUNK = 64
"""Tokens compared with each other directly in the training form; what lies before them is summed first."""


class KernelAttention(HeadedAttention[Sums]):
    """y_t = Σ_s (ψ(q_t) · ψ(k_s)) v_s / Σ_s φ(q_t) · φ(k_s), over s ≤ t where causal.

    φ makes positive features; ψ makes the same features with positions. Both sums over the past are kept, not the past.

    Time O(T·(c + F)·D), in chunks of c tokens; decode state H·F·(E + 1) values, whatever the context.
    """

    epsilon: float
    """Keeps the division finite where there is nothing to divide."""

    def __init__(
        self, spec: Headed, hidden: int, context: int, causal: bool, position: Position, features: int | None = None
    ) -> None:
        super().__init__(spec, hidden, context, causal, position)
        self.features = features or self.head_size

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        memory_BSD: Float[Tensor, "B S D"] | None = None,
        padding_BT: Bool[Tensor, "B _"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        if memory_BSD is not None:
            return self.recall(x_BTD, self.remember(memory_BSD, padding_BT))
        if self.causal:
            return self._mix_past(x_BTD, padding_BT)
        placed_q_BTHF, placed_k_BTHF, q_BTHF, k_BTHF, v_BTHE = self._read(x_BTD, 0, padding_BT)
        return self._divide(_weigh_all(placed_q_BTHF, placed_k_BTHF, v_BTHE), q_BTHF, k_BTHF.sum(1, keepdim=True))

    def _mix_past(self, x_BTD: Tensor, padding_BT: Tensor | None) -> Tensor:
        """Computes the causal form segment by segment, each with the sums over the segments before it."""
        parts: list[Tensor] = []
        products_BHFE: Tensor | None = None
        before_B1HF: Tensor | float = 0.0
        for here in segments(x_BTD.size(1)):
            ignored = None if padding_BT is None else padding_BT[:, here]
            placed_q_BTHF, placed_k_BTHF, q_BTHF, k_BTHF, v_BTHE = self._read(x_BTD[:, here], here.start, ignored)
            weighed_BTHE, products_BHFE = _weigh_past(placed_q_BTHF, placed_k_BTHF, v_BTHE, products_BHFE)
            sum_BTHF = k_BTHF.cumsum(1) + before_B1HF
            before_B1HF = sum_BTHF[:, -1:]
            parts.append(self._divide(weighed_BTHE, q_BTHF, sum_BTHF))
        return torch.cat(parts, dim=1)

    def step(self, x_BTD: Float[Tensor, "B T D"], state: Sums) -> Float[Tensor, "B T D"]:
        start = state.advance(x_BTD.size(1))
        placed_q_BTHF, placed_k_BTHF, q_BTHF, k_BTHF, v_BTHE = self._read(x_BTD, start)
        if x_BTD.size(1) == 1:
            products_BHFE, keys_BHF = state.add_one(placed_k_BTHF, v_BTHE, k_BTHF)
            weighed_BTHE = (placed_q_BTHF.transpose(1, 2) @ products_BHFE).transpose(1, 2)
            return self._divide(weighed_BTHE, q_BTHF, keys_BHF[:, None])
        weighed_BTHE, _ = _weigh_past(placed_q_BTHF, placed_k_BTHF, v_BTHE, state.products_BHFE)
        sum_BTHF = k_BTHF.cumsum(1) + state.keys_BHF[:, None]
        state.add(placed_k_BTHF, v_BTHE, k_BTHF)
        return self._divide(weighed_BTHE, q_BTHF, sum_BTHF)

    def remember(self, memory_BSD: Tensor, padding_BS: Tensor | None = None) -> Memory:
        k_BSHE, v_BSHE = self._project_memory(memory_BSD)
        k_BSHF = self._key_features(k_BSHE)
        if padding_BS is not None:
            k_BSHF = k_BSHF.masked_fill(padding_BS[..., None, None], 0)
        return Memory(k_BSHF, v_BSHE)

    def recall(self, x_BTD: Tensor, memory: Memory) -> Tensor:
        q_BTHF = self._query_features(self._project_queries(x_BTD))
        weighed_BTHE = _weigh_all(q_BTHF, memory.keys_BSKE, memory.values_BSKE)
        return self._divide(weighed_BTHE, q_BTHF, memory.keys_BSKE.sum(1, keepdim=True))

    def memory_bytes(self, batch: int, source: int) -> int:
        return batch * source * self.heads * (self.features + self.head_size) * self._item_bytes()

    def weights(
        self, x_BTD: Tensor, memory_BSD: Tensor | None = None, padding_BT: Tensor | None = None
    ) -> Float[Tensor, "B H T S"]:
        if memory_BSD is None:
            q_BTHF, k_BSHF, *_ = self._read(x_BTD)
        else:
            q_BTHF, k_BSHF = self._query_features(self._project_queries(x_BTD)), self.remember(memory_BSD).keys_BSKE
        products_BHTS = torch.einsum("bthf,bshf->bhts", q_BTHF, k_BSHF)
        if padding_BT is not None:
            products_BHTS = products_BHTS.masked_fill(padding_BT[:, None, None], 0)
        if memory_BSD is None and self.causal:
            products_BHTS = products_BHTS.tril()
        sizes_BHT1 = products_BHTS.abs().sum(-1, keepdim=True)
        return products_BHTS / sizes_BHT1.clamp_min(torch.finfo(sizes_BHT1.dtype).tiny)

    def flops(self, tokens: int, source: int | None = None) -> int:
        made = self._projection_flops(tokens, source) + self._feature_flops(tokens + (source or tokens))
        summing = 2 * self.features * self.width
        if source is not None or not self.causal:
            return made + (tokens + (source or tokens)) * summing
        for here in segments(tokens):
            length = here.stop - here.start
            chunk = min(length, CHUNK)
            comparing = 2 * chunk * self.heads * (self.features + self.head_size)
            made += -(-length // chunk) * chunk * (comparing + (2 * summing if tokens > CHUNK else 0))
        return made

    def state_bytes(self, batch: int, context: int) -> int:
        return batch * self.heads * self.features * (self.head_size + 1) * self._item_bytes()

    def _empty_state(self, batch: int, context: int) -> Sums:
        H, E = self.heads, self.head_size
        return Sums(context, self._new(batch, H, self.features, E), self._new(batch, H, self.features))

    def _read(
        self, x_BTD: Tensor, start: int = 0, padding_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Returns ψ(q), ψ(k), φ(q), φ(k) and the values of tokens from position `start` on.

        Values, and the φ(k) of the divisor, are 0 at ignored tokens.
        """
        qk_BTME, v_BTHE = self._project(x_BTD)
        placed_q_BTHF, placed_k_BTHF, q_BTHF, k_BTHF = self._placed_features(qk_BTME, start)
        if padding_BT is not None:
            ignored_BT11 = padding_BT[..., None, None]
            v_BTHE, k_BTHF = v_BTHE.masked_fill(ignored_BT11, 0), k_BTHF.masked_fill(ignored_BT11, 0)
        return placed_q_BTHF, placed_k_BTHF, q_BTHF, k_BTHF, v_BTHE

    @abstractmethod
    def _placed_features(self, qk_BTME: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns ψ(q), ψ(k), φ(q), φ(k), (B, T, H, F) each."""

    @abstractmethod
    def _query_features(self, q_BTHE: Tensor) -> Tensor:
        """Returns φ(q), up to one factor for each query, which cancels."""

    @abstractmethod
    def _key_features(self, k_BSHE: Tensor) -> Tensor:
        """Returns φ(k), up to one factor for all keys, which cancels."""

    def _feature_flops(self, vectors: int) -> int:
        """Counts the FLOPs of making the features of so many queries and keys, in all heads."""
        return 0

    def _divide(self, weighed_BTHE: Tensor, q_BTHF: Tensor, sum_BTHF: Tensor) -> Tensor:
        """Divides what was gathered by the divisor φ(q_t) · Σ_s φ(k_s), heads joined."""
        divisor_BTH1 = (q_BTHF * sum_BTHF).sum(-1, keepdim=True)
        return self._join((weighed_BTHE / (divisor_BTH1 + self.epsilon)).flatten(2))


def _weigh_all(q_BTHF: Tensor, k_BSHF: Tensor, v_BSHE: Tensor) -> Tensor:
    """Computes Σ_s (q_t · k_s) v_s over all s: (B, T, H, E)."""
    q_BHTF, k_BHSF, v_BHSE = (t.transpose(1, 2) for t in (q_BTHF, k_BSHF, v_BSHE))
    return (q_BHTF @ (k_BHSF.mT @ v_BHSE)).transpose(1, 2)


def _weigh_past(
    q_BTHF: Tensor, k_BTHF: Tensor, v_BTHE: Tensor, before_BHFE: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Computes Σ_s (q_t · k_s) v_s over s ≤ t and over the tokens whose k vᵀ are summed in `before`: (B, T, H, E).

    Returns that sum after these tokens too; for a sequence of one chunk it is not needed.
    """
    T = q_BTHF.size(1)
    chunk = min(T, CHUNK)
    q_BNHcF, k_BNHcF, v_BNHcE = (chunked(t, chunk) for t in (q_BTHF, k_BTHF, v_BTHE))
    # In place, where nobody else reads the product: over long sequences new memory costs more than the sums.
    y_BNHcE = (q_BNHcF @ k_BNHcF.mT).tril_() @ v_BNHcE
    if chunk == T and before_BHFE is None:
        return y_BNHcE.transpose(2, 3).flatten(1, 2), None
    sums_BNHFE = (k_BNHcF.mT @ v_BNHcE).cumsum(1)
    if before_BHFE is not None:
        sums_BNHFE = sums_BNHFE + before_BHFE[:, None]
    first_BHFE = torch.zeros_like(sums_BNHFE[:, 0]) if before_BHFE is None else before_BHFE
    y_BNHcE += q_BNHcF @ torch.cat((first_BHFE[:, None], sums_BNHFE[:, :-1]), dim=1)
    return y_BNHcE.transpose(2, 3).flatten(1, 2)[:, :T], sums_BNHFE[:, -1]
