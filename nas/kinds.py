"""Describes attention kinds as data: the fields that a search may choose, and what each kind supports. It needs no
torch.

A kind is a frozen value with a name (`kind`), fields of its own, and the forms and positions that it supports;
`nas.kind_base` holds what all kinds share. A new kind needs a class here and its name in `Attention` below, a module in
a file under `nas/attention/`, and a line in its table.
"""

from typing import Annotated, Literal, get_args

from pydantic import Field

from nas.bounds import CONTEXT, CONV
from nas.kind_base import EVERYWHERE, SCORED

# Named again, so that all of a kind can be imported from here.
from nas.kind_base import Form as Form
from nas.kind_base import Grouped as Grouped
from nas.kind_base import Headed as Headed
from nas.kind_base import Kind as Kind
from nas.kind_base import Position as Position
from nas.kind_base import Problem as Problem
from nas.spec import Flag, Real, Size, Tokens, Whole


class Softmax(Grouped):
    """Describes scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762; GQA: arXiv:2305.13245).

    `qk_norm`: queries and keys to root mean square 1, with a gain (arXiv:2302.05442). `gate`: the output times
    sigmoid(W x) (arXiv:2505.06708). `bias`: on all its matrices, as in GPT-2 and BERT.
    """

    kind: Literal["softmax"] = "softmax"
    forms = ("causal", "bidirectional", "cross")
    qk_norm: Flag = False
    gate: Flag = False
    bias: Flag = False


class Latent(Headed):
    """Describes multi-head latent attention: only one short vector a token is cached (DeepSeek-V2, arXiv:2405.04434).

    `latent`: its size. `rope_size`: the size of the separate part of each head that rotary positions turn; all heads
    share it in the keys. By default it is half a head.
    """

    kind: Literal["latent"] = "latent"
    latent: Size = 32
    rope_size: Size | None = None

    def turned_size(self, hidden: int) -> int:
        """Returns the number of values that carry the position: `rope_size`, or half a head, at least 2 and even."""
        return self.rope_size or max(2, self.size(hidden) // 4 * 2)

    def problem(self, hidden: int, position: Position | None = None) -> Problem | None:
        if self.rope_size is not None and self.rope_size % 2:
            return f"rope_size={self.rope_size} must be even", "use an even number"
        # The head itself is not turned, so that its size may be odd.
        return super().problem(hidden, "none" if position in (None, "rope") else position)


class Cosine(Grouped):
    """Describes attention with unit-length queries and keys (Henry et al. 2020, arXiv:2010.04245)."""

    kind: Literal["cosine"] = "cosine"
    forms = ("causal", "bidirectional", "cross")


class Additive(Headed):
    """Describes additive attention, v · tanh(W q + U k), in several heads (Bahdanau et al. 2015, arXiv:1409.0473)."""

    kind: Literal["additive"] = "additive"
    forms = ("causal", "bidirectional", "cross")
    positions = ("alibi", *EVERYWHERE)


class Differential(Headed):
    """Describes the difference of two softmax maps, each over half of a head (Ye et al. 2024, arXiv:2410.05258).

    `subtracted`: λ at the start, the share of the second map that is subtracted.
    """

    kind: Literal["differential"] = "differential"
    forms = ("causal", "bidirectional", "cross")
    positions = SCORED
    subtracted: Real = Field(default=0.5, ge=0, lt=1)

    def problem(self, hidden: int, position: Position | None = None) -> Problem | None:
        if problem := super().problem(hidden, "none" if position in (None, "rope") else position):
            return problem
        whole = 4 if position in (None, "rope") else 2
        if self.size(hidden) % whole:
            return (
                f"heads={self.heads} gives heads of size {self.size(hidden)}, of which two halves cannot be made",
                f"use heads whose size {whole} divides",
            )
        return None


class Window(Grouped):
    """Lets each token see itself and the `window` − 1 tokens before it (Beltagy et al. 2020, arXiv:2004.05150).

    `global_tokens`: the number of first tokens that all tokens see; without causality these see all tokens too.
    """

    kind: Literal["window"] = "window"
    window: Tokens = 32
    global_tokens: Whole = Field(default=0, ge=0, le=CONTEXT)

    def __str__(self) -> str:
        return super().__str__().removesuffix(" global_tokens=0")


class BlockSparse(Grouped):
    """Lets blocks of tokens see their own block, the one before, and every `stride`-th before that (arXiv:1904.10509).

    `far`: the number of these strided blocks, so that the cost stays linear in the context.
    """

    kind: Literal["block_sparse"] = "block_sparse"
    block: Tokens = 16
    stride: Whole = Field(default=4, ge=2, le=CONTEXT)
    far: Tokens = 4


class Linear(Headed):
    """Describes kernel attention with the feature map ELU + 1 (Katharopoulos et al. 2020, arXiv:2006.16236)."""

    kind: Literal["linear"] = "linear"
    forms = ("causal", "bidirectional", "cross")


class Performer(Headed):
    """Describes kernel attention with orthogonal random features (Choromanski et al. 2021, arXiv:2009.14794).

    `features`: their number in each head; they are drawn once and never trained.
    """

    kind: Literal["performer"] = "performer"
    forms = ("causal", "bidirectional", "cross")
    features: Size = 32


class Linformer(Headed):
    """Describes softmax over `rank` learned mixtures of keys and values (Wang et al. 2020, arXiv:2006.04768)."""

    kind: Literal["linformer"] = "linformer"
    forms = ("bidirectional",)
    positions = ("learned", "sinusoidal", "rope", "none")
    rank: Size = 32


class Retention(Headed):
    """Describes decay by age, a rate for each head, in place of a softmax (Sun et al. 2023, arXiv:2307.08621)."""

    kind: Literal["retention"] = "retention"
    forms = ("causal",)


class GatedLinear(Headed):
    """Describes a state that forgets by gates computed from the data (Yang et al. 2024, arXiv:2312.06635)."""

    kind: Literal["gated_linear"] = "gated_linear"
    forms = ("causal",)
    positions = EVERYWHERE[::-1]


class GatedDelta(Headed):
    """Describes a gated state in which each key's old value is replaced (Yang et al. 2025, arXiv:2412.06464).

    `conv`: the tokens of the short convolution before queries, keys and values; 0 for none.
    """

    kind: Literal["gated_delta"] = "gated_delta"
    forms = ("causal",)
    positions = EVERYWHERE[::-1]
    conv: Whole = Field(default=4, ge=0, le=CONV)


class NoAttention(Kind):
    """Describes a block that mixes no tokens: the cheapest choice."""

    kind: Literal["none"] = "none"
    weighs = False
    positions = EVERYWHERE[::-1]


class Lstm(Kind):
    """Describes a long short-term memory of the hidden size (Hochreiter & Schmidhuber 1997).

    Its source is doi:10.1162/neco.1997.9.8.1735.
    """

    kind: Literal["lstm"] = "lstm"
    weighs = False
    forms = ("causal",)
    positions = EVERYWHERE[::-1]


Attention = Annotated[
    Softmax
    | Latent
    | Cosine
    | Additive
    | Differential
    | Window
    | BlockSparse
    | Linear
    | Performer
    | Linformer
    | Retention
    | GatedLinear
    | GatedDelta
    | NoAttention
    | Lstm,
    Field(discriminator="kind"),
]
ATTENTION_SPECS: dict[str, type[Kind]] = {
    spec.model_fields["kind"].default: spec for spec in get_args(get_args(Attention)[0])
}


def having(form: Form) -> tuple[str, ...]:
    """Returns the names of the kinds that have this form."""
    return tuple(kind for kind, spec in ATTENTION_SPECS.items() if form in spec.forms)
