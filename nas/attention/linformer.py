"""Defines Linformer attention: queries attend to a few learned mixtures of the tokens, at a cost linear in the context.

Shapes: B batch, T tokens, S tokens attended to, D hidden, C context, H heads, E head size, R mixtures (the rank).
"""

from typing import NoReturn

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nas.attention.base import HeadedAttention
from nas.attention.dot_product import attend, explicit_weights
from nas.attention.state import State
from nas.errors import UsageError
from nas.kinds import Linformer, Position


class LinformerAttention(HeadedAttention[State]):
    """y = softmax(q (A k)ᵀ / √E) (G v) with learned A and G of R × C: bidirectional, among the tokens of one sequence.

    Wang et al. 2020 (arXiv:2006.04768), whose E and F are A and G here. One pair of them serves all heads of a layer
    (the paper's headwise sharing). Where we differ: A and G start as sums over R stretches of neighbours, shorter
    sequences use the first columns, and ignored tokens count as zeros. Rotary positions turn keys before they are
    mixed.

    Time O(T·R·D); no decode state, as a mixture contains the future.
    """

    def __init__(self, spec: Linformer, hidden: int, context: int, causal: bool, position: Position) -> None:
        super().__init__(spec, hidden, context, causal, position)
        self.rank = spec.rank
        self.key_mix_RC = nn.Parameter(stretches(spec.rank, context))
        self.value_mix_RC = nn.Parameter(stretches(spec.rank, context))

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        memory_BSD: Float[Tensor, "B S D"] | None = None,
        padding_BT: Bool[Tensor, "B _"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        if memory_BSD is not None:
            return self.recall(x_BTD, self.remember(memory_BSD, padding_BT))
        q_BTHE, k_BTHE, v_BTHE = self._project_turned(x_BTD)
        k_BRHE = _mixed(self.key_mix_RC, _without(k_BTHE, padding_BT))
        v_BRHE = _mixed(self.value_mix_RC, _without(v_BTHE, padding_BT))
        return self._join(attend(q_BTHE, k_BRHE, v_BRHE))

    def step(self, x_BTD: Float[Tensor, "B T D"], state: State) -> Float[Tensor, "B T D"]:
        self._refuse_to_decode()

    def weights(
        self, x_BTD: Tensor, memory_BSD: Tensor | None = None, padding_BT: Tensor | None = None
    ) -> Float[Tensor, "B H T S"]:
        """Returns the exact factors of the values, softmax · G: they may be negative, and do not sum to 1."""
        if memory_BSD is not None:
            return self.recall(x_BTD, self.remember(memory_BSD, padding_BT))
        q_BTHE, k_BTHE, _ = self._project_turned(x_BTD)
        k_BRHE = _mixed(self.key_mix_RC, _without(k_BTHE, padding_BT))
        weights_BHTS = explicit_weights(q_BTHE, k_BRHE) @ self.value_mix_RC[:, : x_BTD.size(1)]
        return weights_BHTS if padding_BT is None else weights_BHTS.masked_fill(padding_BT[:, None, None], 0)

    def flops(self, tokens: int, source: int | None = None) -> int:
        return self._projection_flops(tokens) + 8 * tokens * self.rank * self.width

    def state_bytes(self, batch: int, context: int) -> int:
        return 0

    def _empty_state(self, batch: int, context: int) -> State:
        self._refuse_to_decode()

    def _refuse_to_decode(self) -> NoReturn:
        raise UsageError("linformer attention mixes the future into its keys, and cannot decode", code="attention-form")


def stretches(rank: int, context: int) -> Tensor:
    """Returns (R, C): each row sums C/R neighbouring tokens, times √(R/C), which keeps the size of unlike tokens.

    Compared with noise N(0, 1/C): a masked token is found in the copy of its word (20 tokens, words of 8, rank 16,
    context 64, two blocks of hidden 64, 400 steps, rotary) with a loss of 0.86 nats instead of 1.60.
    """
    stretch_C = torch.arange(context) * rank // context
    chosen_RC: Tensor = stretch_C == torch.arange(rank)[:, None]
    return chosen_RC * float(min(1.0, rank / context) ** 0.5)


def _without(tokens_BTHE: Tensor, padding_BT: Tensor | None) -> Tensor:
    return tokens_BTHE if padding_BT is None else tokens_BTHE.masked_fill(padding_BT[..., None, None], 0)


def _mixed(weight_RC: Tensor, tokens_BTHE: Tensor) -> Tensor:
    """Computes the mixtures (B, R, H, E) of T ≤ C tokens."""
    B, T, H, E = tokens_BTHE.shape
    return (weight_RC[:, :T] @ tokens_BTHE.flatten(2)).view(B, -1, H, E)
