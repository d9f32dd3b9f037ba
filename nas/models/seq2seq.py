"""Holds what models that answer a source have in common.

Shapes: B batch, S tokens of the source, T tokens of the answer, D hidden, H heads, V vocabulary, U steps.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nas.errors import UsageError
from nas.models.beam import Beam
from nas.models.stack import StackState, Vocabulary


@dataclass(frozen=True)
class SourceMaps:
    """Holds the attention weights of each layer; None where a layer has none to show.

    Their shapes: (B, H, S, S) within the source, (B, H, T, T) within the answer, (B, H, T, S) from answer to source.
    """

    encoder: list[Tensor | None]
    decoder: list[Tensor | None]
    cross: list[Tensor | None]


class Seq2Seq(nn.Module, ABC):
    """Reads a whole source, then answers it token by token. Both have the same vocabulary.

    Wherever a `padding` is given, it is True at tokens of the source to ignore.
    """

    vocabulary: Vocabulary
    encoder: nn.Module
    context: int
    """The most tokens of a source, and of an answer."""

    @abstractmethod
    def forward(
        self,
        source_BS: Int[Tensor, "B S"],
        tokens_BT: Int[Tensor, "B T"],
        padding_BS: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Returns the logits of the token after each of `tokens`, which begin with the start token."""

    @abstractmethod
    def new_state(self, batch: int, context: int) -> StackState:
        """Makes the empty state that answers of up to `context` tokens fill."""

    @abstractmethod
    def remember(self, source_BS: Int[Tensor, "B S"], padding_BS: Bool[Tensor, "B S"] | None = None) -> list[Any]:
        """Computes once what the layers that attend to the source read of it."""

    @abstractmethod
    def attention_maps(
        self,
        source_BS: Int[Tensor, "B S"],
        tokens_BT: Int[Tensor, "B T"],
        padding_BS: Bool[Tensor, "B S"] | None = None,
    ) -> SourceMaps:
        """Returns the weights with which `forward` attends."""

    def flops(self, tokens: int, source: int | None = None) -> int:
        """Counts the FLOPs of the matrix products over one source and one answer; a multiply-add counts as two.

        By default the source is as long as the answer.
        """
        return self._flops(tokens, tokens if source is None else source)

    @abstractmethod
    def _flops(self, tokens: int, source: int) -> int:
        """Computes `flops` for both lengths."""

    @abstractmethod
    def state_bytes(self, batch: int, context: int) -> int:
        """Counts the bytes of `new_state(batch, context)` once it holds a source as long as the context, unpadded."""

    def encode(
        self, source_BS: Int[Tensor, "B S"], padding_BS: Bool[Tensor, "B S"] | None = None
    ) -> Float[Tensor, "B S D"]:
        """Returns one vector a token of the source."""
        source_BSD: Tensor = self.encoder(self.vocabulary(source_BS), padding_BS)
        return source_BSD

    @torch.inference_mode()
    def prefill(
        self, source_BS: Int[Tensor, "B S"], state: StackState, padding_BS: Bool[Tensor, "B S"] | None = None
    ) -> None:
        """Reads the source into the state."""
        state.memories = self.remember(source_BS, padding_BS)

    @torch.inference_mode()
    def decode_step(self, token_B: Int[Tensor, " B"], state: StackState) -> Float[Tensor, "B V"]:
        """Reads one token of each answer, and returns the logits of the next."""
        if not state.memories:
            raise UsageError("the decode state holds no source to answer; call prefill(source, state) first")
        return self._read_on(token_B[:, None], state)[:, 0]

    def generate(
        self,
        source_BS: Int[Tensor, "B S"],
        steps: int,
        start: int,
        stop: int | None = None,
        beams: int = 1,
        padding_BS: Bool[Tensor, "B S"] | None = None,
        length_penalty: float = 0.6,
    ) -> Int[Tensor, "B U"]:
        """Returns the `steps` tokens after `start`, as `Beam` chooses them; after the first `stop` all are `stop`."""
        if not 0 <= steps <= self.context:
            raise UsageError(f"steps={steps} tokens cannot be generated; the context holds 0 to {self.context}")
        if source_BS.size(1) < 1:
            raise UsageError("a source of 0 tokens cannot be answered; give at least one")
        tokens = self.vocabulary.embedding.num_embeddings
        for name, token in (("start", start), ("stop", stop)):
            if token is not None and not 0 <= token < tokens:
                raise UsageError(f"{name}={token} is not a token; tokens are 0 to {tokens - 1}")
        state = self.new_state(len(source_BS), max(1, steps))
        self.prefill(source_BS, state, padding_BS)
        start_B = source_BS.new_full((len(source_BS),), start)
        return Beam(beams, length_penalty).search(self.decode_step, state, start_B, steps, stop)

    @abstractmethod
    def _read_on(self, tokens_BT: Int[Tensor, "B T"], state: StackState) -> Float[Tensor, "B T V"]:
        """Reads T more tokens of each answer, from a state that holds its source; returns the logits after each."""
