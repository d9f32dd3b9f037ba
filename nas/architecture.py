"""Architectures as data: what is searched, stored, hashed and built. No torch here.

An `Architecture` is a frozen value. A combination that cannot be built is rejected with its path, its value
and the fix; nothing is ever repaired silently. `Architecture.id` names it everywhere: in the database, in
folders, in caches.
"""

import hashlib
import json
from functools import cached_property
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import ErrorDetails

from nas.errors import InvalidArchitecture, nearest


class Spec(BaseModel):
    """A frozen value that knows its canonical form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def canonical(self) -> dict[str, Any]:
        """Plain data with every field at its default left out, so that a new field keeps old ids."""
        data: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            default = field.get_default(call_default_factory=True, validated_data=self.__dict__)
            if name == "kind" or value != default:
                data[name] = _plain(value)
        return data


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.canonical()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


class Headed(Spec):
    """What every kind with heads shares: `heads` of equal size, side by side in the hidden size."""

    kind: str
    heads: PositiveInt = 4

    def problem(self, hidden: int) -> tuple[str, str] | None:
        """(`field=value must ...`, the fix) when this cannot be built at that hidden size, else None."""
        if hidden % self.heads:
            return f"heads={self.heads} must divide hidden={hidden}", f"use one of {_divisors(hidden)}"
        if hidden // self.heads % 2:
            even = [h for h in range(1, hidden + 1) if hidden % h == 0 and hidden // h % 2 == 0]
            text = (
                f"heads={self.heads} gives heads of odd size {hidden // self.heads}, which rotary positions cannot turn"
            )
            return text, f"use one of {', '.join(map(str, even))}" if even else "use an even hidden size"
        return None

    def __str__(self) -> str:
        """softmax heads=4 kv_heads=1; keys and values of all heads are not mentioned."""
        fields = {name: getattr(self, name) for name in type(self).model_fields if name != "kind"}
        if fields.get("kv_heads") == self.heads:
            del fields["kv_heads"]
        return " ".join([self.kind, *(f"{name}={value}" for name, value in fields.items())])


class Grouped(Headed):
    """Heads whose keys and values may be shared: kv_heads = heads (MHA), fewer (GQA), or 1 (MQA)."""

    kv_heads: PositiveInt = Field(default_factory=lambda data: data.get("heads", 4))

    def problem(self, hidden: int) -> tuple[str, str] | None:
        if self.heads % self.kv_heads:
            return f"kv_heads={self.kv_heads} must divide heads={self.heads}", f"use one of {_divisors(self.heads)}"
        return super().problem(hidden)


class Softmax(Grouped):
    """Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762; GQA: arXiv:2305.13245)."""

    kind: Literal["softmax"] = "softmax"


class Cosine(Grouped):
    """Unit-length queries and keys with a learned temperature (Henry et al. 2020, arXiv:2010.04245)."""

    kind: Literal["cosine"] = "cosine"


class Window(Grouped):
    """Each token sees itself and the `window` − 1 tokens before it (Beltagy et al. 2020, arXiv:2004.05150)."""

    kind: Literal["window"] = "window"
    window: PositiveInt = 32


class Linear(Headed):
    """Kernel attention with the feature map ELU + 1 (Katharopoulos et al. 2020, arXiv:2006.16236)."""

    kind: Literal["linear"] = "linear"


Attention = Annotated[Softmax | Cosine | Window | Linear, Field(discriminator="kind")]
ATTENTION_SPECS: dict[str, type[Headed]] = {
    spec.model_fields["kind"].default: spec for spec in get_args(get_args(Attention)[0])
}


class FeedForward(Spec):
    """The block's second half: two matrices (gelu), or three with a gate (swiglu, Shazeer 2020, arXiv:2002.05202).

    `ratio` is the inner size over the hidden size. swiglu takes two thirds of it, so that equal ratios cost
    about equal parameters.
    """

    kind: Literal["swiglu", "gelu"] = "swiglu"
    ratio: float = Field(default=4.0, gt=0, le=16)

    def inner(self, hidden: int) -> int:
        """The inner size, a multiple of 8 (at least 8)."""
        size = hidden * self.ratio * (2 / 3 if self.kind == "swiglu" else 1)
        return max(8, round(size / 8) * 8)

    def __str__(self) -> str:
        return self.kind if self.ratio == 4 else f"{self.kind}×{self.ratio:g}"


class Block(Spec):
    """One layer: attention, then feed-forward, each behind its norm with a residual."""

    attention: Attention
    feed_forward: FeedForward = FeedForward()


class Architecture(Spec):
    """A whole model without its vocabulary and context, which belong to the task."""

    family: Literal["decoder"] = "decoder"
    hidden: PositiveInt
    blocks: tuple[Block, ...] = Field(min_length=1)

    @model_validator(mode="wrap")
    @classmethod
    def _reject(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Turn what pydantic says into one sentence with path, value and fix."""
        try:
            architecture = handler(data)
        except ValidationError as error:
            raise InvalidArchitecture(sentence(error)) from error
        for i, block in enumerate(architecture.blocks):
            problem = block.attention.problem(architecture.hidden)
            if problem:
                text, fix = problem
                raise InvalidArchitecture(f"blocks[{i}].attention.{text}; {fix}")
        return architecture

    @cached_property
    def id(self) -> str:
        """The first 12 hex digits of the SHA-256 of the canonical JSON."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def depth(self) -> int:
        return len(self.blocks)

    def __str__(self) -> str:
        """One line for tables: hidden 64, depth 2, softmax heads=4."""
        layers = [f"{b.attention} {b.feed_forward}" for b in self.blocks]
        runs: list[tuple[str, int]] = []
        for layer in layers:
            if runs and runs[-1][0] == layer:
                runs[-1] = (layer, runs[-1][1] + 1)
            else:
                runs.append((layer, 1))
        text = " + ".join(f"{n}× {layer}" if n > 1 else layer for layer, n in runs)
        return f"hidden {self.hidden}: {text}"


def path_of(location: tuple[int | str, ...]) -> str:
    """("blocks", 2, "attention", "softmax", "heads") → blocks[2].attention.heads (the union's tag is left out)."""
    path = ""
    for before, part in zip((None, *location), location, strict=False):
        if isinstance(part, int):
            path += f"[{part}]"
        elif before != "attention":
            path += f".{part}" if path else part
    return path


def first_error(error: ValidationError) -> ErrorDetails:
    """What to tell first: an unknown key explains why another is missing, not the other way round."""
    errors = error.errors(include_url=False)
    return next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])


def sentence(error: ValidationError) -> str:
    """The first thing that pydantic found wrong, with path and value."""
    first = first_error(error)
    if first["type"] == "union_tag_invalid":
        kind = first["ctx"]["tag"]
        return f"{path_of(first['loc'])}.kind={kind!r} is unknown; {nearest(kind, ATTENTION_SPECS)}"
    path, value = path_of(first["loc"]), first.get("input")
    if first["type"] in ("missing", "extra_forbidden", "json_invalid") or isinstance(value, (dict, list)):
        return f"{path or 'architecture'}: {first['msg'].lower()}"
    return f"{path}={value!r}: {first['msg'].lower()}"


def _divisors(n: int) -> str:
    return ", ".join(str(d) for d in range(1, n + 1) if n % d == 0)
