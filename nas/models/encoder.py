"""Defines encoders, which read a whole text at once: to fill in masked tokens, to classify it, or to find a span.

Shapes: B batch, T tokens, D hidden, V vocabulary, C classes, H heads.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.models.layers import build_norm
from nas.models.stack import Stack, Vocabulary, initialise_matrices


class Bidirectional(nn.Module, ABC):
    """h = stack(W[tokens]) with bidirectional blocks; each subclass adds a head.

    It cannot decode, since every token sees those after it. Wherever a `padding` is given, it is True at tokens to
    ignore. With `tied`, W is the output matrix too; a head without an output matrix needs no other.
    """

    def __init__(self, architecture: Architecture, vocabulary: int, context: int, tied: bool) -> None:
        super().__init__()
        self.architecture, self.context = architecture, context
        self.vocabulary = Vocabulary(vocabulary, architecture.hidden, tied)
        self.stack = Stack(architecture.blocks, architecture.hidden, context, causal=False, repeat=architecture.repeat)
        self.vocabulary.initialise()
        self.stack.initialise()

    @abstractmethod
    def forward(self, tokens_BT: Tensor, padding_BT: Tensor | None = None) -> Tensor:
        """Returns the head's outputs."""

    def encode(
        self, tokens_BT: Int[Tensor, "B T"], padding_BT: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """Returns one vector a token."""
        x_BTD: Tensor = self.stack(self.vocabulary(tokens_BT), padding_BT)
        return x_BTD

    def pooled(
        self, tokens_BT: Int[Tensor, "B T"], padding_BT: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B D"]:
        """Returns one vector a text: the mean over its tokens, or its first token's, as the architecture says."""
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
        """Returns the attention weights of each block and head; None for a kind that has none."""
        return self.stack.attention_maps(self.vocabulary(tokens_BT), padding_BT)[0]

    @abstractmethod
    def flops(self, tokens: int) -> int:
        """Counts the FLOPs of the matrix products of a forward pass over one sequence; a multiply-add counts as two."""

    def state_bytes(self, batch: int, context: int) -> int:
        """Returns 0: nothing is remembered from one text to the next."""
        return 0


class Encoder(Bidirectional):
    """logits = 8 · W_out norm(gelu(W_t h + b_t)) + b.

    Devlin et al. 2019 (arXiv:1810.04805), with its head for masked tokens. Where we differ: there are no segments, and
    blocks may be of any kind, those of BERT (softmax, learned positions, gelu, layer norm, post) among them.
    """

    def __init__(self, architecture: Architecture, vocabulary: int, context: int) -> None:
        super().__init__(architecture, vocabulary, context, architecture.tied)
        self.transform = nn.Linear(architecture.hidden, architecture.hidden)
        self.norm = build_norm(architecture.blocks[-1].norm, architecture.hidden)
        self.bias_V = nn.Parameter(torch.zeros(vocabulary))
        initialise_matrices(self.transform)

    def forward(
        self, tokens_BT: Int[Tensor, "B T"], padding_BT: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Returns the logits of the token that belongs at each place."""
        y_BTD = self.norm(F.gelu(self.transform(self.encode(tokens_BT, padding_BT))))
        return self.vocabulary.logits(y_BTD) + self.bias_V

    def flops(self, tokens: int) -> int:
        transformed = 2 * tokens * self.architecture.hidden**2
        return self.stack.flops(tokens) + transformed + self.vocabulary.flops(tokens)


class Classifier(Bidirectional):
    """logits = W_c pooled(h) + b_c, with W_c = 0 at first, so that every class starts equally likely."""

    def __init__(self, architecture: Architecture, vocabulary: int, context: int, classes: int) -> None:
        super().__init__(architecture, vocabulary, context, tied=True)
        self.classes = nn.Linear(architecture.hidden, classes)
        nn.init.zeros_(self.classes.weight)
        nn.init.zeros_(self.classes.bias)

    def forward(
        self, tokens_BT: Int[Tensor, "B T"], padding_BT: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B C"]:
        logits_BC: Tensor = self.classes(self.pooled(tokens_BT, padding_BT))
        return logits_BC

    def flops(self, tokens: int) -> int:
        pooled = 2 * tokens * self.architecture.hidden if self.architecture.pooling == "mean" else 0
        return self.stack.flops(tokens) + pooled + 2 * self.classes.in_features * self.classes.out_features


class SpanReader(Bidirectional):
    """Computes two logits a token, W_s h + b_s: to be the first and to be the last of a span.

    Devlin et al. 2019 (arXiv:1810.04805). W_s = 0 at first, so that every place starts equally likely.
    """

    def __init__(self, architecture: Architecture, vocabulary: int, context: int) -> None:
        super().__init__(architecture, vocabulary, context, tied=True)
        self.ends = nn.Linear(architecture.hidden, 2)
        nn.init.zeros_(self.ends.weight)
        nn.init.zeros_(self.ends.bias)

    def forward(
        self, tokens_BT: Int[Tensor, "B T"], padding_BT: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B 2 T"]:
        logits_BT2: Tensor = self.ends(self.encode(tokens_BT, padding_BT))
        return logits_BT2.transpose(1, 2)

    def flops(self, tokens: int) -> int:
        return self.stack.flops(tokens) + 2 * tokens * self.ends.in_features * self.ends.out_features
