"""An encoder: reads a whole text at once, fills in masked tokens, or makes one vector of it.

Shapes: B batch, T tokens, D hidden, V vocabulary, H heads.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.models.layers import build_norm
from nas.models.stack import Stack, Vocabulary, initialise_matrices


class Encoder(nn.Module):
    """logits = 8 · W_out norm(gelu(W_t h + b_t)) + b, h = stack(W[tokens]): blocks that see both ways.

    Devlin et al. 2019 (arXiv:1810.04805), with its head for masked tokens. Ours: one kind of text, so no segments; and
    any blocks, those of BERT (softmax, learned positions, gelu, layer norm, post) among them. It cannot decode: every
    token sees those after it.
    """

    def __init__(self, architecture: Architecture, vocabulary: int, context: int) -> None:
        super().__init__()
        self.architecture, self.context = architecture, context
        hidden, blocks = architecture.hidden, architecture.blocks
        self.vocabulary = Vocabulary(vocabulary, hidden, architecture.tied)
        self.stack = Stack(blocks, hidden, context, causal=False, repeat=architecture.repeat)
        self.transform = nn.Linear(hidden, hidden)
        self.norm = build_norm(blocks[-1].norm, hidden)
        self.bias_V = nn.Parameter(torch.zeros(vocabulary))
        self.vocabulary.initialise()
        self.stack.initialise()
        initialise_matrices(self.transform)

    def forward(
        self, tokens_BT: Int[Tensor, "B T"], padding_BT: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T V"]:
        """The logits of the token that belongs at each place; `padding` is True at tokens to ignore."""
        y_BTD = self.norm(F.gelu(self.transform(self.encode(tokens_BT, padding_BT))))
        return self.vocabulary.logits(y_BTD) + self.bias_V

    def encode(
        self, tokens_BT: Int[Tensor, "B T"], padding_BT: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """One vector a token."""
        x_BTD: Tensor = self.stack(self.vocabulary(tokens_BT), padding_BT)
        return x_BTD

    def pooled(
        self, tokens_BT: Int[Tensor, "B T"], padding_BT: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B D"]:
        """One vector a text: the mean over its tokens, or its first token's, as the architecture says."""
        x_BTD = self.encode(tokens_BT, padding_BT)
        real_BT = torch.ones_like(tokens_BT, dtype=torch.bool) if padding_BT is None else ~padding_BT
        if self.architecture.pooling == "first":
            return x_BTD[torch.arange(len(x_BTD), device=x_BTD.device), real_BT.int().argmax(dim=1)]
        share_BT = real_BT / real_BT.sum(dim=1, keepdim=True).clamp_min(1)
        return torch.einsum("btd,bt->bd", x_BTD, share_BT)

    @torch.inference_mode()
    def attention_maps(
        self, tokens_BT: Int[Tensor, "B T"], padding_BT: Bool[Tensor, "B T"] | None = None
    ) -> list[Float[Tensor, "B H T T"] | None]:
        """The attention weights of each block and head; None for a kind that has none."""
        return self.stack.attention_maps(self.vocabulary(tokens_BT), padding_BT)[0]

    def flops(self, tokens: int) -> int:
        """Matrix products of a forward pass over one sequence; a multiply-add counts as two."""
        transformed = 2 * tokens * self.architecture.hidden**2
        return self.stack.flops(tokens) + transformed + self.vocabulary.flops(tokens)

    def state_bytes(self, batch: int, context: int) -> int:
        """Nothing is remembered from one text to the next."""
        return 0
