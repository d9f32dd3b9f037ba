"""Defines recurrent models: LSTM layers that continue a text, or answer a source that they attend to.

Shapes: B batch, T tokens, S tokens of the source, D hidden, H heads, V vocabulary.
"""

from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nas import attention
from nas.architecture import Architecture, Cross
from nas.attention import Memory
from nas.attention.lstm import LstmState
from nas.attention.state import check_fits
from nas.models.decoder import Decoder
from nas.models.lstm_stack import LstmEncoder, LstmStack
from nas.models.seq2seq import Seq2Seq, SourceMaps
from nas.models.stack import StackState, Vocabulary, initialise_matrices


class RecurrentModel(Decoder):
    """logits = 8 · W_out LSTM_N(… LSTM_1(W[tokens])), with no norms and no residuals.

    Zaremba et al. 2014 (arXiv:1409.2329), without dropout. It works as every decoder does, and the size of its state
    does not depend on the context.
    """

    def _new_stack(self, architecture: Architecture, context: int) -> LstmStack:
        return LstmStack(architecture.blocks, architecture.hidden, context)


class RecurrentSeq2Seq(Seq2Seq):
    """logits_t = 8 · W_out tanh(W_write [h_t; c_t; e_t]), with c_t the attention of s_{t−1} to the encoder's outputs.

    s_t = LSTM_1(W_read [e_t; c_t]), h_t = LSTM_N(… LSTM_2(s_t)), and e_t is the embedding of token t. Bahdanau et al.
    2015 (arXiv:1409.0473), in layers as in GNMT (Wu et al. 2016, arXiv:1609.08144). Where we differ: LSTM replaces GRU,
    tanh replaces maxout, s_0 = 0, the source may be attended to with any kind, and there are no residuals.

    Training goes through the answer token by token, since each c_t needs the state before it.
    """

    encoder: LstmEncoder

    def __init__(self, architecture: Architecture, vocabulary: int, context: int) -> None:
        super().__init__()
        self.architecture, self.context = architecture, context
        hidden, (first, *upper) = architecture.hidden, architecture.blocks
        self.vocabulary = Vocabulary(vocabulary, hidden, architecture.tied)
        self.encoder = LstmEncoder(architecture.encoder_blocks, hidden, context)
        self.cross = attention.build(cast("Cross", first.cross), hidden, context, causal=False, position="none")
        self.read = nn.Linear(2 * hidden, hidden, bias=False)
        self.first = attention.build(first.attention, hidden, context)
        self.upper = LstmStack(upper, hidden, context)
        self.write = nn.Linear(3 * hidden, hidden, bias=False)
        initialise_matrices(self)
        self.vocabulary.initialise()

    def forward(
        self,
        source_BS: Int[Tensor, "B S"],
        tokens_BT: Int[Tensor, "B T"],
        padding_BS: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        check_fits(tokens_BT.size(1), self.context)
        state = self.new_state(len(tokens_BT), self.context)
        state.memories = self.remember(source_BS, padding_BS)
        return self._read_on(tokens_BT, state)

    def new_state(self, batch: int, context: int) -> StackState:
        return StackState([self.first.new_state(batch, context), *self.upper.new_state(batch, context).layers])

    def remember(self, source_BS: Int[Tensor, "B S"], padding_BS: Bool[Tensor, "B S"] | None = None) -> list[Memory]:
        return [self.cross.remember(self.encode(source_BS, padding_BS), padding_BS)]

    @torch.inference_mode()
    def attention_maps(
        self,
        source_BS: Int[Tensor, "B S"],
        tokens_BT: Int[Tensor, "B T"],
        padding_BS: Bool[Tensor, "B S"] | None = None,
    ) -> SourceMaps:
        """Returns None for LSTM layers; the decoder's first entry holds the weights from the answer to the source."""
        state = self.new_state(len(tokens_BT), self.context)
        self.prefill(source_BS, state, padding_BS)
        s_BTD, _ = self._recur(self.vocabulary(tokens_BT), state)
        asking_BTD = torch.cat((torch.zeros_like(s_BTD[:, :1]), s_BTD[:, :-1]), dim=1)
        cross_BHTS = self.cross.weights(asking_BTD, self.encode(source_BS, padding_BS), padding_BS)
        below, layers = len(self.architecture.encoder_blocks), len(self.architecture.blocks)
        return SourceMaps([None] * below, [None] * layers, [cross_BHTS, *[None] * (layers - 1)])

    def _flops(self, tokens: int, source: int) -> int:
        layers = self.encoder.flops(source) + self.first.flops(tokens) + self.upper.flops(tokens)
        joined = 2 * tokens * sum(m.in_features * m.out_features for m in (self.read, self.write))
        return layers + self.cross.flops(tokens, source) + joined + self.vocabulary.flops(tokens)

    def state_bytes(self, batch: int, context: int) -> int:
        own = self.first.state_bytes(batch, context) + self.upper.state_bytes(batch, context)
        return own + self.cross.memory_bytes(batch, context)

    def _read_on(self, tokens_BT: Int[Tensor, "B T"], state: StackState) -> Float[Tensor, "B T V"]:
        e_BTD = self.vocabulary(tokens_BT)
        s_BTD, c_BTD = self._recur(e_BTD, state)
        h_BTD = self.upper.step(s_BTD, StackState(state.layers[1:]))
        return self.vocabulary.logits(self.write(torch.cat((h_BTD, c_BTD, e_BTD), dim=-1)).tanh())

    def _recur(self, e_BTD: Tensor, state: StackState) -> tuple[Tensor, Tensor]:
        """Computes the first layer's outputs s and contexts c at T more tokens."""
        held, memory = cast(LstmState, state.layers[0]), state.memories[0]
        s, c = [], []
        for e_BD in e_BTD.unbind(dim=1):
            c.append(self.cross.recall(held.output_BD[:, None], memory))
            s.append(self.first.step(self.read(torch.cat((e_BD[:, None], c[-1]), dim=-1)), held))
        return torch.cat(s, dim=1), torch.cat(c, dim=1)


def recurrent(architecture: Architecture, vocabulary: int, context: int) -> RecurrentModel | RecurrentSeq2Seq:
    """Builds a language model, or, with encoder blocks, a model that answers a source."""
    model = RecurrentSeq2Seq if architecture.encoder_blocks else RecurrentModel
    return model(architecture, vocabulary, context)
