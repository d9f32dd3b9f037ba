"""A decoder-only Transformer: reads tokens, predicts the next one at every position.

Shapes: B batch, T tokens, D hidden, V vocabulary.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.attention import State
from nas.errors import UsageError
from nas.models.layers import Norm, TransformerBlock
from nas.models.sampling import Sampling

LOGIT_SCALE = 8.0
"""Lets the shared matrix be small, and so learn fast at a common learning rate.

Hidden 64, depth 2, 300 steps of Muon and AdamW on Python's documentation, validation loss by scale: 1.78 at 1, 1.64
at 4, 1.59 at 8, 1.58 at 16.
"""


@dataclass
class DecoderState:
    """One attention state a layer, all of the same length."""

    layers: list[State]

    @property
    def length(self) -> int:
        return self.layers[0].length

    @property
    def context(self) -> int:
        return self.layers[0].context


class Decoder(nn.Module):
    """logits = 8 · W norm(block_N(… block_1(norm(W[tokens])))), with one matrix W (V, D) as embedding and head.

    Pre-norm blocks without biases; each block has its own attention and feed-forward. The norm behind the embedding
    lets the residual stream start at size 1, whatever the head makes of W.
    """

    def __init__(self, architecture: Architecture, vocabulary: int, context: int) -> None:
        super().__init__()
        self.architecture, self.vocabulary, self.context = architecture, vocabulary, context
        hidden = architecture.hidden
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.blocks = nn.ModuleList(TransformerBlock(block, hidden, context) for block in architecture.blocks)
        self.norm = Norm()
        self.initialise()

    def initialise(self) -> None:
        """Every matrix keeps the size of what it reads; those that write to the residual stream share its growth.

        2 · depth of these writes add up to the size of the embedding (Radford et al. 2019). The first loss is close
        to log V: a token's logit of itself is at most LOGIT_SCALE · D · std, here 2.
        """
        nn.init.normal_(self.embedding.weight, std=2 / (LOGIT_SCALE * self.architecture.hidden))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
        with torch.no_grad():
            for block in self._blocks():
                for writer in (block.attention.out, block.feed_forward.down):
                    writer.weight /= math.sqrt(2 * self.architecture.depth)

    def forward(self, tokens_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        x_BTD = self.norm(self.embedding(tokens_BT))
        for block in self._blocks():
            x_BTD = block(x_BTD)
        return self._logits(x_BTD)

    def new_state(self, batch: int, context: int) -> DecoderState:
        """What decoding `batch` sequences of up to `context` tokens remembers, empty."""
        return DecoderState([block.attention.new_state(batch, context) for block in self._blocks()])

    @torch.inference_mode()
    def prefill(self, tokens_BT: Int[Tensor, "B T"], state: DecoderState) -> Float[Tensor, "B T V"]:
        """Read T tokens after those that the state holds: the same logits as one pass over all of them."""
        return self._step(tokens_BT, state)

    @torch.inference_mode()
    def decode_step(self, token_B: Int[Tensor, " B"], state: DecoderState) -> Float[Tensor, "B V"]:
        """Read one token a sequence; the logits of the next."""
        return self._step(token_B[:, None], state)[:, 0]

    def generate(
        self,
        tokens_BT: Int[Tensor, "B T"],
        steps: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "B U"]:
        """The prompt and `steps` more tokens, U = T + steps; see `Sampling` for the ways to choose one.

        When the context is full, its last half is read again and goes on from there; a prompt longer than the
        context is read from its last tokens.
        """
        sampling = Sampling(temperature, top_k)
        B, T = tokens_BT.shape
        if T < 1 or steps < 0:
            raise UsageError(f"cannot generate steps={steps} tokens after a prompt of {T}; give a token to start from")
        tokens_BU = torch.cat((tokens_BT, tokens_BT.new_empty(B, steps)), dim=1)
        state, unread = self.new_state(B, self.context), tokens_BT[:, -self.context :]
        for u in range(T, T + steps):
            if state.length + unread.size(1) > self.context:
                state, unread = self.new_state(B, self.context), tokens_BU[:, u - (self.context + 1) // 2 : u]
            logits_BV = self.prefill(unread, state)[:, -1]
            tokens_BU[:, u] = sampling.pick(logits_BV, generator)
            unread = tokens_BU[:, u : u + 1]
        return tokens_BU

    def flops(self, tokens: int) -> int:
        """Matrix products of a forward pass over one sequence; a multiply-add counts as two."""
        head = 2 * tokens * self.architecture.hidden * self.vocabulary
        return head + sum(block.flops(tokens) for block in self._blocks())

    def state_bytes(self, batch: int, context: int) -> int:
        """The size of `new_state(batch, context)`."""
        return sum(block.attention.state_bytes(batch, context) for block in self._blocks())

    def _step(self, tokens_BT: Tensor, state: DecoderState) -> Tensor:
        x_BTD = self.norm(self.embedding(tokens_BT))
        for block, layer in zip(self._blocks(), state.layers, strict=True):
            x_BTD = block.step(x_BTD, layer)
        return self._logits(x_BTD)

    def _logits(self, x_BTD: Tensor) -> Tensor:
        return F.linear(LOGIT_SCALE * self.norm(x_BTD), self.embedding.weight)

    def _blocks(self) -> Iterable[TransformerBlock]:
        return cast("Iterable[TransformerBlock]", self.blocks)
