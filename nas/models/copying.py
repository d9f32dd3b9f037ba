"""Defines an encoder-decoder that can also copy tokens of its source.

Shapes: B batch, S tokens of the source, T tokens of the answer, D hidden, V vocabulary.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.models.encoder_decoder import EncoderDecoder
from nas.models.stack import StackState, initialise_matrices

LEAST = 1e-20
"""The probability of a token that neither side offers; its logarithm is finite."""


@dataclass(frozen=True)
class Copied:
    """Holds what may be copied: keys of the source, its tokens, and which of these are padding."""

    keys_BSD: Tensor
    tokens_BS: Tensor
    padding_BS: Tensor | None


class CopyingEncoderDecoder(EncoderDecoder):
    """p(w) = g · softmax(logits)_w + (1 − g) · Σ_{s: source_s = w} a_s, where a is an attention over the source.

    a = softmax(W_q h · W_k m / √D) over the encoder's outputs m, and g = σ(w_g · h + b_g), from the decoder's output h.
    The returned logits are log p.

    See et al. 2017 (arXiv:1704.04368). Where we differ: a is a separate attention, not the decoder's, so that every
    kind of attention can copy.
    """

    def __init__(self, architecture: Architecture, vocabulary: int, context: int) -> None:
        super().__init__(architecture, vocabulary, context)
        hidden = architecture.hidden
        self.asking = nn.Linear(hidden, hidden, bias=False)
        self.offering = nn.Linear(hidden, hidden, bias=False)
        self.gate = nn.Linear(hidden, 1)
        for part in (self.asking, self.offering, self.gate):
            initialise_matrices(part)

    def forward(
        self,
        source_BS: Int[Tensor, "B S"],
        tokens_BT: Int[Tensor, "B T"],
        padding_BS: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        *memories, copied = self.remember(source_BS, padding_BS)
        return self._mixed(self.decoder(self.vocabulary(tokens_BT), memories=memories), copied)

    def remember(self, source_BS: Int[Tensor, "B S"], padding_BS: Bool[Tensor, "B S"] | None = None) -> list[Any]:
        """Computes what the layers read of the source, then what may be copied."""
        source_BSD = self.encode(source_BS, padding_BS)
        copied = Copied(self.offering(source_BSD), source_BS, padding_BS)
        return [*self.decoder.remember(source_BSD, padding_BS), copied]

    def _read_on(self, tokens_BT: Int[Tensor, "B T"], state: StackState) -> Float[Tensor, "B T V"]:
        return self._mixed(self.decoder.step(self.vocabulary(tokens_BT), state), state.memories[-1])

    def _mixed(self, h_BTD: Tensor, copied: Any) -> Tensor:
        scores_BTS = self.asking(h_BTD) @ copied.keys_BSD.mT / math.sqrt(h_BTD.size(-1))
        if copied.padding_BS is not None:
            scores_BTS = scores_BTS.masked_fill(copied.padding_BS[:, None], -torch.inf)
        g_BT1 = self.gate(h_BTD).sigmoid()
        p_BTV: Tensor = g_BT1 * self.vocabulary.logits(h_BTD).softmax(dim=-1)
        places_BTS = copied.tokens_BS[:, None].expand_as(scores_BTS)
        return p_BTV.scatter_add(2, places_BTS, (1 - g_BT1) * scores_BTS.softmax(dim=-1)).clamp_min(LEAST).log()

    def _flops(self, tokens: int, source: int) -> int:
        hidden = self.architecture.hidden
        copying = 2 * hidden * (hidden * (tokens + source) + tokens * source + tokens)
        return super()._flops(tokens, source) + copying

    def state_bytes(self, batch: int, context: int) -> int:
        """Counts the keys to copy by, and the source's tokens, too."""
        keys = self.architecture.hidden * self.offering.weight.element_size()
        return super().state_bytes(batch, context) + batch * context * (keys + torch.long.itemsize)
