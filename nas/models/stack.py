"""Stacks blocks: one side of a model.

Shapes: B batch, T tokens, S tokens of the source, D hidden, V vocabulary, H heads, G heads that attend to the source.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nas.architecture import Block
from nas.attention import Attention, Memory, State
from nas.models.layers import ADDED, RMSNorm, TransformerBlock, build_norm

LOGIT_SCALE = 8.0
"""Lets the output matrix be small, and so learn fast at a common learning rate.

Hidden 64, depth 2, 300 steps of Muon and AdamW on Python's documentation, validation loss by scale: 1.78 at 1, 1.64
at 4, 1.59 at 8, 1.58 at 16.
"""


@dataclass
class StackState:
    """Holds one attention state a layer and pass, all of the same length, and the layers' memory of the source."""

    layers: list[State]
    memories: list[Any] = field(default_factory=list)

    @property
    def length(self) -> int:
        return self.layers[0].length

    @property
    def context(self) -> int:
        return self.layers[0].context


def initialise_matrices(module: nn.Module) -> None:
    """Draws matrices that keep the size of what they read, and sets biases to 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=1 / math.sqrt(part.in_features))
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class Stack(nn.Module):
    """y = norm(block_N(… block_1(x))), with the blocks passed `repeat` times.

    Learned and sinusoidal positions are added to x at the first block that asks for them. Post-norm blocks read normed
    inputs, so such a stack has its extra norm at the start, after the positions, and not at the end.
    """

    def __init__(
        self, blocks: Sequence[Block], hidden: int, context: int, causal: bool = True, repeat: int = 1
    ) -> None:
        super().__init__()
        self.repeat = repeat
        self.blocks = nn.ModuleList(TransformerBlock(block, hidden, context, causal) for block in blocks)
        firsts = {block.position: i for i, block in reversed(list(enumerate(blocks))) if block.position in ADDED}
        self.positions = nn.ModuleDict({str(i): ADDED[kind](hidden, context) for kind, i in firsts.items()})
        self.entry = build_norm(blocks[0].norm, hidden) if blocks[0].residual == "post" else nn.Identity()
        self.norm = nn.Identity() if blocks[-1].residual == "post" else build_norm(blocks[-1].norm, hidden)

    def initialise(self) -> None:
        """Draws matrices as `initialise_matrices` does, but scales those that write to the residual stream.

        The writes of all passes add up to the size of the embedding (Radford et al. 2019).
        """
        initialise_matrices(self)
        writers = [writer for block in self.layers() for writer in block.writers()]
        for writer in writers:
            writer.weight.data /= math.sqrt(max(1, len(writers)) * self.repeat)

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        padding_BT: Bool[Tensor, "B T"] | None = None,
        memories: Sequence[Memory] = (),
    ) -> Float[Tensor, "B T D"]:
        """Computes the output.

        `padding` is True at tokens to ignore; `memories` holds what each layer remembers of the source.
        """
        for turn in range(self.repeat):
            for i, block in enumerate(self.layers()):
                x_BTD = self._placed(x_BTD, turn, i, 0)
                x_BTD = block(x_BTD, padding_BT, memories[i] if memories else None)
        normed_BTD: Tensor = self.norm(x_BTD)
        return normed_BTD

    def step(self, x_BTD: Float[Tensor, "B T D"], state: StackState) -> Float[Tensor, "B T D"]:
        """Computes the output of T new tokens after those that the state holds."""
        start = state.length
        for turn in range(self.repeat):
            for i, block in enumerate(self.layers()):
                x_BTD = self._placed(x_BTD, turn, i, start)
                memory = state.memories[i] if state.memories else None
                x_BTD = block.step(x_BTD, state.layers[turn * len(self.blocks) + i], memory)
        normed_BTD: Tensor = self.norm(x_BTD)
        return normed_BTD

    def new_state(self, batch: int, context: int) -> StackState:
        """Makes the empty state that decoding `batch` sequences of up to `context` tokens fills."""
        turns = [block for _ in range(self.repeat) for block in self.layers()]
        return StackState([block.attention.new_state(batch, context) for block in turns])

    def remember(self, source_BSD: Tensor, padding_BS: Tensor | None = None) -> list[Memory]:
        """Computes once what each layer reads of the source."""
        return [cross.remember(source_BSD, padding_BS) for cross in self.crosses()]

    def attention_maps(
        self,
        x_BTD: Tensor,
        padding_BT: Tensor | None = None,
        source_BSD: Tensor | None = None,
        padding_BS: Tensor | None = None,
    ) -> tuple[list[Float[Tensor, "B H T T"] | None], list[Float[Tensor, "B G T S"] | None]]:
        """Returns the weights of each layer's attention in the first pass, and of its attention to the source.

        They are None for a kind that has none to show, and without attention to the source.
        """
        own: list[Tensor | None] = []
        crossed: list[Tensor | None] = []
        for i, block in enumerate(self.layers()):
            x_BTD, own_BHTT, cross_BGTS = block.show(self._placed(x_BTD, 0, i, 0), padding_BT, source_BSD, padding_BS)
            own.append(own_BHTT)
            crossed.append(cross_BGTS)
        return own, crossed

    def flops(self, tokens: int, source: int = 0) -> int:
        """Counts the FLOPs of a forward pass over one sequence, repeated blocks each time.

        What is remembered of the source, which no query needs, is computed once for all passes.
        """
        passed = self.repeat * sum(block.flops(tokens, source) for block in self.layers())
        return passed - (self.repeat - 1) * sum(cross.flops(0, source) for cross in self.crosses())

    def state_bytes(self, batch: int, context: int) -> int:
        """Counts the bytes of `new_state(batch, context)`, and of the memory of a source as long as the context."""
        own = self.repeat * sum(block.attention.state_bytes(batch, context) for block in self.layers())
        return own + sum(cross.memory_bytes(batch, context) for cross in self.crosses())

    def crosses(self) -> list[Attention[Any]]:
        """Returns the attention to the source of each layer that has one."""
        return [block.cross for block in self.layers() if block.cross is not None]

    def layers(self) -> Iterable[TransformerBlock]:
        return cast("Iterable[TransformerBlock]", self.blocks)

    def _placed(self, x_BTD: Tensor, turn: int, i: int, start: int) -> Tensor:
        """Returns what block i reads: x with the positions that this block is the first to ask for."""
        if turn == 0 and str(i) in self.positions:
            x_BTD = self.positions[str(i)](x_BTD, start)
        return self.entry(x_BTD) if turn == i == 0 else x_BTD


class Vocabulary(nn.Module):
    """Maps token numbers to vectors, and vectors to logits: 8 · W_out x.

    Tied: W_out is the embedding, which is small, and embedded rows are scaled to size 1. Untied: both are free, and the
    embedding starts at size 1.
    """

    def __init__(self, vocabulary: int, hidden: int, tied: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.head = self.embedding if tied else nn.Embedding(vocabulary, hidden)
        self.norm = RMSNorm() if tied else nn.Identity()

    def initialise(self) -> None:
        """Keeps the first loss close to log V: a token's logit of itself is at most LOGIT_SCALE · D · std, here 2."""
        if self.head is not self.embedding:
            nn.init.normal_(self.embedding.weight)
        nn.init.normal_(self.head.weight, std=2 / (LOGIT_SCALE * self.head.embedding_dim))

    def forward(self, tokens_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        x_BTD: Tensor = self.norm(self.embedding(tokens_BT))
        return x_BTD

    def logits(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T V"]:
        return F.linear(LOGIT_SCALE * x_BTD, self.head.weight)

    def flops(self, tokens: int) -> int:
        return 2 * tokens * self.head.embedding_dim * self.head.num_embeddings
