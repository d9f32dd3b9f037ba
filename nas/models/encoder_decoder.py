"""Defines the whole Transformer: an encoder reads a source, and a decoder answers it.

Shapes: B batch, S tokens of the source, T tokens of the answer, V vocabulary.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nas.architecture import Architecture
from nas.attention import Memory
from nas.models.seq2seq import Seq2Seq, SourceMaps
from nas.models.stack import Stack, StackState, Vocabulary


class EncoderDecoder(Seq2Seq):
    """logits = 8 · W_out decoder(W[tokens], m), m = encoder(W[source]), with attention to m in each decoder block.

    Vaswani et al. 2017 (arXiv:1706.03762). Source and answer share one vocabulary. The encoder is bidirectional, the
    decoder causal. The blocks handle positions; attention to the source has none. Each stack is passed `repeat` times.
    """

    encoder: Stack

    def __init__(self, architecture: Architecture, vocabulary: int, context: int) -> None:
        super().__init__()
        self.architecture, self.context = architecture, context
        hidden, repeat = architecture.hidden, architecture.repeat
        self.vocabulary = Vocabulary(vocabulary, hidden, architecture.tied)
        self.encoder = Stack(architecture.encoder_blocks, hidden, context, causal=False, repeat=repeat)
        self.decoder = Stack(architecture.blocks, hidden, context, causal=True, repeat=repeat)
        for part in (self.vocabulary, self.encoder, self.decoder):
            part.initialise()

    def forward(
        self,
        source_BS: Int[Tensor, "B S"],
        tokens_BT: Int[Tensor, "B T"],
        padding_BS: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        memories = self.remember(source_BS, padding_BS)
        return self.vocabulary.logits(self.decoder(self.vocabulary(tokens_BT), memories=memories))

    def new_state(self, batch: int, context: int) -> StackState:
        return self.decoder.new_state(batch, context)

    def remember(self, source_BS: Int[Tensor, "B S"], padding_BS: Bool[Tensor, "B S"] | None = None) -> list[Memory]:
        return self.decoder.remember(self.encode(source_BS, padding_BS), padding_BS)

    @torch.inference_mode()
    def attention_maps(
        self,
        source_BS: Int[Tensor, "B S"],
        tokens_BT: Int[Tensor, "B T"],
        padding_BS: Bool[Tensor, "B S"] | None = None,
    ) -> SourceMaps:
        source_BSD = self.encode(source_BS, padding_BS)
        encoder, _ = self.encoder.attention_maps(self.vocabulary(source_BS), padding_BS)
        decoder, cross = self.decoder.attention_maps(self.vocabulary(tokens_BT), None, source_BSD, padding_BS)
        return SourceMaps(encoder, decoder, cross)

    def _flops(self, tokens: int, source: int) -> int:
        return self.encoder.flops(source) + self.decoder.flops(tokens, source) + self.vocabulary.flops(tokens)

    def state_bytes(self, batch: int, context: int) -> int:
        return self.decoder.state_bytes(batch, context)

    def _read_on(self, tokens_BT: Int[Tensor, "B T"], state: StackState) -> Float[Tensor, "B T V"]:
        return self.vocabulary.logits(self.decoder.step(self.vocabulary(tokens_BT), state))
