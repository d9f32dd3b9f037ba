"""Holds what every attention kind shares: forms, positions, and the base classes of kinds with heads. No torch here."""

from math import isqrt
from typing import ClassVar, Literal

from pydantic import Field

from nas.bounds import ALL_HEADS
from nas.spec import Heads, HeadSize, Spec

Form = Literal["causal", "bidirectional", "cross"]
"""Causal: a token sees itself and the past. Bidirectional: all tokens. Cross: the tokens of a memory."""

Position = Literal["rope", "alibi", "learned", "sinusoidal", "none"]
"""A position is how a block knows the order of its tokens.

rope turns queries and keys by their place (arXiv:2104.09864), alibi lowers scores in proportion to the distance
(arXiv:2108.12409); learned (one vector a place) and sinusoidal (arXiv:1706.03762) are added to what the block reads.
"""

EVERYWHERE: tuple[Position, ...] = ("learned", "sinusoidal", "none")
"""Positions that ask nothing of an attention kind."""
TURNED: tuple[Position, ...] = ("rope", *EVERYWHERE)
"""Positions of kinds that compare queries and keys by products, but have no scores to lower."""
SCORED: tuple[Position, ...] = ("rope", "alibi", *EVERYWHERE)
"""Positions of kinds with a softmax over scores."""

Problem = tuple[str, str]
"""(`field=value must ...`, the fix)."""


class Kind(Spec):
    """Defines what every kind declares about itself."""

    kind: str
    forms: ClassVar[tuple[Form, ...]] = ("causal", "bidirectional")
    positions: ClassVar[tuple[Position, ...]] = EVERYWHERE
    """Positions that it can be given; the first is the default."""
    weighs: ClassVar[bool] = True
    """True where it has attention weights that can be shown."""

    def problem(self, hidden: int, position: Position | None = None) -> Problem | None:
        """Says why this cannot be built at that hidden size and how to mend it; returns None where it can."""
        if position is not None and position not in self.positions:
            return f"kind={self.kind!r} takes no position={position!r}", f"use one of {', '.join(self.positions)}"
        return None

    def __str__(self) -> str:
        """Writes the kind in short form: softmax heads=4 kv_heads=1.

        Options that are off, and unshared keys and values, are left out.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields if name != "kind"}
        if fields.get("kv_heads") == fields.get("heads"):
            fields.pop("kv_heads", None)
        shown = {name: value for name, value in fields.items() if value is not None and value is not False}
        words = [name if value is True else f"{name}={value}" for name, value in shown.items()]
        return " ".join([self.kind, *words])


class Headed(Kind):
    """Kinds with `heads` of equal size: by default the hidden size shared out among them, else `head_size` each."""

    positions = TURNED
    heads: Heads = 4
    head_size: HeadSize | None = None

    def size(self, hidden: int) -> int:
        """Returns the size of a head at that hidden size."""
        return self.head_size or hidden // self.heads

    def problem(self, hidden: int, position: Position | None = None) -> Problem | None:
        if self.head_size is None and hidden % self.heads:
            return f"heads={self.heads} must divide hidden={hidden}", f"use one of {divisors(hidden)}"
        turned = (position or self.positions[0]) == "rope"
        if turned and self.head_size is not None and self.head_size % 2:
            return f"head_size={self.head_size} must be even for rotary positions", "use an even number"
        if turned and self.size(hidden) % 2:
            text = f"heads={self.heads} gives heads of odd size {self.size(hidden)}, which rotary positions cannot turn"
            return text, "use an even hidden size" if hidden % 2 else f"use one of {divisors(hidden // 2)}"
        if self.heads * (self.head_size or 0) > ALL_HEADS:
            text = f"heads={self.heads} × head_size={self.head_size} must be at most {ALL_HEADS}"
            return text, "use fewer or smaller heads"
        return super().problem(hidden, position)


class Grouped(Headed):
    """Heads whose keys and values may be shared: kv_heads = heads (MHA), fewer (GQA), or 1 (MQA)."""

    positions = SCORED
    kv_heads: Heads = Field(default_factory=lambda data: data.get("heads", 4))

    def problem(self, hidden: int, position: Position | None = None) -> Problem | None:
        if self.heads % self.kv_heads:
            return f"kv_heads={self.kv_heads} must divide heads={self.heads}", f"use one of {divisors(self.heads)}"
        return super().problem(hidden, position)


def divisors(n: int) -> str:
    """Returns the divisors of n, from their pairs d · (n / d)."""
    small = [d for d in range(1, isqrt(n) + 1) if n % d == 0]
    return ", ".join(map(str, sorted({*small, *(n // d for d in small)})))
