"""Defines a decoder-only Transformer, which predicts the next token at every position.

Shapes: B batch, T tokens, U tokens with those generated, H heads, V vocabulary.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.models.generation import continue_text
from nas.models.lstm_stack import LstmStack
from nas.models.sampling import Sampling
from nas.models.stack import Stack, StackState, Vocabulary


class Decoder(nn.Module):
    """logits = 8 · W_out stack(W[tokens]): causal blocks, each with its own attention and feed-forward."""

    def __init__(self, architecture: Architecture, vocabulary: int, context: int) -> None:
        super().__init__()
        self.architecture, self.context = architecture, context
        self.vocabulary = Vocabulary(vocabulary, architecture.hidden, architecture.tied)
        self.stack = self._new_stack(architecture, context)
        self.vocabulary.initialise()
        self.stack.initialise()

    def forward(self, tokens_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        return self.vocabulary.logits(self.stack(self.vocabulary(tokens_BT)))

    def new_state(self, batch: int, context: int) -> StackState:
        """Makes the empty state that decoding `batch` sequences of up to `context` tokens fills."""
        return self.stack.new_state(batch, context)

    @torch.inference_mode()
    def prefill(self, tokens_BT: Int[Tensor, "B T"], state: StackState) -> Float[Tensor, "B T V"]:
        """Reads T tokens after those that the state holds, and returns the same logits as one pass over all of them."""
        return self.vocabulary.logits(self.stack.step(self.vocabulary(tokens_BT), state))

    @torch.inference_mode()
    def decode_step(self, token_B: Int[Tensor, " B"], state: StackState) -> Float[Tensor, "B V"]:
        """Reads one token a sequence, and returns the logits of the next."""
        return self.prefill(token_B[:, None], state)[:, 0]

    def generate(
        self,
        tokens_BT: Int[Tensor, "B T"],
        steps: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "B U"]:
        """Returns the prompt and `steps` more tokens, U = T + steps; `Sampling` chooses each token.

        When the context is full, its last half is read again and generation continues from there. A prompt longer than
        the context is read from its last tokens.
        """
        return continue_text(self, tokens_BT, steps, Sampling(temperature, top_k), generator)

    @torch.inference_mode()
    def attention_maps(self, tokens_BT: Int[Tensor, "B T"]) -> list[Float[Tensor, "B H T T"] | None]:
        """Returns the attention weights of each block and head over these tokens; None for a kind that has none."""
        return self.stack.attention_maps(self.vocabulary(tokens_BT))[0]

    def flops(self, tokens: int) -> int:
        """Counts the FLOPs of the matrix products of a forward pass over one sequence; a multiply-add counts as two."""
        return self.vocabulary.flops(tokens) + self.stack.flops(tokens)

    def state_bytes(self, batch: int, context: int) -> int:
        """Counts the bytes of `new_state(batch, context)`."""
        return self.stack.state_bytes(batch, context)

    def _new_stack(self, architecture: Architecture, context: int) -> Stack | LstmStack:
        return Stack(architecture.blocks, architecture.hidden, context, causal=True, repeat=architecture.repeat)
