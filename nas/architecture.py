"""Defines architectures as data: what is searched, stored, hashed and built. It needs no torch.

An `Architecture` is a frozen value. A combination that cannot be built is rejected with its path, its value and the
fix; nothing is ever repaired silently. `Architecture.id` names it everywhere: in the database, in folders, in caches.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from itertools import groupby
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, ValidationError, model_validator
from pydantic.config import ExtraValues
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import ErrorDetails

from nas import bounds, files
from nas.errors import InvalidArchitecture, nearest
from nas.kinds import ATTENTION_SPECS, Additive, Attention, Cosine, Form, Position, Problem, Softmax, having
from nas.printable import quoted
from nas.spec import Flag, Hidden, Passes, Real, Spec

Family = Literal["decoder", "encoder", "encoder_decoder", "recurrent"]
FAMILIES: tuple[Family, ...] = get_args(Family)

Cross = Annotated[Softmax | Cosine | Additive, Field(discriminator="kind")]
"""Attention to what an encoder made of the source."""
CROSS_KINDS: tuple[str, ...] = tuple(spec.model_fields["kind"].default for spec in get_args(get_args(Cross)[0]))

UNIONS = ("attention", "cross", "space", "task")
"""Fields that hold one of several kinds; pydantic puts the kind's tag behind them, which no message needs."""


class FeedForward(Spec):
    """Describes a block's second half: two matrices (gelu, relu2), three with a gate (swiglu), or none.

    swiglu: Shazeer 2020, arXiv:2002.05202; relu2, the square of relu: So et al. 2021, arXiv:2109.08668. `ratio` is the
    inner size over the hidden size. swiglu takes two thirds of it, so that equal ratios cost about equal parameters.
    """

    kind: Literal["swiglu", "gelu", "relu2", "none"] = "swiglu"
    ratio: Real = Field(default=4.0, gt=0, le=16)
    bias: Flag = False

    def inner(self, hidden: int) -> int:
        """Returns the inner size, a multiple of 8 (at least 8); 0 where there is none."""
        if self.kind == "none":
            return 0
        size = hidden * self.ratio * (2 / 3 if self.kind == "swiglu" else 1)
        return max(8, round(size / 8) * 8)

    def __str__(self) -> str:
        ratio = "" if self.ratio == 4 else f"×{self.ratio:g}"
        return f"{self.kind}{ratio}{' bias' if self.bias else ''}" if self.kind != "none" else ""


class Block(Spec):
    """Describes one layer: attention, then feed-forward, each with a norm and a residual.

    `residual`: sequential, x + f(norm(x)) twice (pre-norm); parallel, x + attention(norm(x)) + feed_forward(norm(x))
    (arXiv:2204.02311); post, norm(x + f(x)) twice, as in the first Transformer. `norm`: rms, without a gain, or layer,
    with gain and bias. `cross`: attention to the source, between the two.
    """

    attention: Attention
    feed_forward: FeedForward = FeedForward()
    position: Position = Field(default_factory=lambda data: _default_position(data.get("attention")))
    norm: Literal["rms", "layer"] = "rms"
    residual: Literal["sequential", "parallel", "post"] = "sequential"
    cross: Cross | None = None

    def problem(self, hidden: int, form: Form) -> Problem | None:
        """Returns (`field.value must ...`, the fix) when this cannot be built at that hidden size, else None."""
        kind, feed_forward = self.attention.kind, self.feed_forward
        if form not in self.attention.forms:
            return f"attention.kind={kind!r} has no {form} form", f"use one of {', '.join(having(form))}"
        if problem := self.attention.problem(hidden, self.position):
            text, fix = problem
            return (text.replace("kind=", "attention.kind=") if "position" in text else f"attention.{text}"), fix
        if self.cross and (problem := self.cross.problem(hidden, "none")):
            return f"cross.{problem[0]}", problem[1]
        if feed_forward.kind == "none" and (feed_forward.ratio != 4 or feed_forward.bias):
            return "feed_forward.kind='none' has neither ratio nor bias", "leave them out"
        branches = (kind != "none") + (feed_forward.kind != "none") + (self.cross is not None)
        if branches == 1 and self.residual == "parallel":
            return "residual='parallel' has one branch alone", "use 'sequential', which is the same"
        if branches == 0:
            return "attention.kind='none' with feed_forward.kind='none' does nothing", "give it one of the two"
        return None

    def __str__(self) -> str:
        parts = [str(self.attention), f"to source: {self.cross}," if self.cross else "", str(self.feed_forward)]
        extras = [
            self.position if self.position != _default_position(self.attention) else "",
            "layer-norm" if self.norm == "layer" else "",
            self.residual if self.residual != "sequential" else "",
        ]
        return " ".join(filter(None, [*parts, *extras])).rstrip(",")


def _default_position(attention: Any) -> Position:
    """Returns the kind's own position; any, where the kind itself is wrong."""
    position: Position = attention.positions[0] if attention else "none"
    return position


class Architecture(Spec):
    """Describes a whole model without its vocabulary and context, which belong to the task.

    `tied`: embedding and output layer are one matrix. `repeat`: how often the stack of blocks is passed, with the same
    weights (Lan et al. 2020, arXiv:1909.11942). `pooling`: how an encoder makes one vector of a text.
    """

    family: Family = "decoder"
    hidden: Hidden
    blocks: tuple[Block, ...] = Field(min_length=1, max_length=bounds.BLOCKS)
    encoder_blocks: tuple[Block, ...] = Field(default=(), max_length=bounds.BLOCKS)
    tied: Flag = True
    repeat: Passes = 1
    pooling: Literal["mean", "first"] = "mean"

    @classmethod
    def model_validate_json(
        cls,
        json_data: str | bytes | bytearray,
        *,
        strict: bool | None = None,
        extra: ExtraValues | None = None,
        context: Any | None = None,
        by_alias: bool | None = None,
        by_name: bool | None = None,
    ) -> Self:
        """Reads JSON. Raises InvalidArchitecture, also for text that is not JSON or nested too deep."""
        return cls.model_validate(
            _parsed(json_data), strict=strict, extra=extra, context=context, by_alias=by_alias, by_name=by_name
        )

    @model_validator(mode="wrap")
    @classmethod
    def _reject(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Turns pydantic's error into one sentence with path, value and fix."""
        try:
            architecture = handler(data)
        except ValidationError as error:
            raise InvalidArchitecture(sentence(error)) from error
        for path, text, fix in architecture._problems():
            raise InvalidArchitecture(f"{path}{text}; {fix}")
        return architecture

    def _problems(self) -> Iterator[tuple[str, str, str]]:
        """Yields (path, what is wrong, the fix) for everything that prevents building it."""
        family, seq2seq = self.family, self.family in ("encoder_decoder", "recurrent")
        if self.encoder_blocks and not seq2seq:
            yield "", f"encoder_blocks do not belong to family={family!r}", "leave them out"
        if family == "encoder_decoder" and not self.encoder_blocks:
            yield "", "family='encoder_decoder' needs encoder_blocks", "give at least one"
        if self.pooling != "mean" and family != "encoder":
            yield "", f"pooling={self.pooling!r} does not belong to family={family!r}", "leave it out"
        if problem := too_large(self.hidden, max(self.depth, len(self.encoder_blocks)), self.repeat):
            yield "", *problem
        if family == "recurrent":
            yield from self._problems_of_recurrent()
        else:
            stacks = (("blocks", self.blocks), ("encoder_blocks", self.encoder_blocks))
            for name, i, block in ((name, i, block) for name, blocks in stacks for i, block in enumerate(blocks)):
                form: Form = "bidirectional" if family == "encoder" or name == "encoder_blocks" else "causal"
                if problem := block.problem(self.hidden, form):
                    yield f"{name}[{i}].", *problem
                wanted = family == "encoder_decoder" and name == "blocks"
                if wanted != bool(block.cross):
                    what = f"cross={block.cross.kind!r} has no source" if block.cross else "cross is missing"
                    fix = f"use one of {', '.join(CROSS_KINDS)}" if wanted else "leave it out"
                    yield f"{name}[{i}].", what, fix

    def _problems_of_recurrent(self) -> Iterator[tuple[str, str, str]]:
        if self.repeat != 1:
            yield "", f"repeat={self.repeat} does not belong to family='recurrent'", "leave it out"
        for name, blocks in (("blocks", self.blocks), ("encoder_blocks", self.encoder_blocks)):
            for i, block in enumerate(blocks):
                attends = bool(self.encoder_blocks) and name == "blocks" and i == 0
                cross = block.cross if attends else None
                if block != LSTM_LAYER.model_copy(update={"cross": cross}) or attends != bool(cross):
                    plain = "{ attention = { kind = 'lstm' }, feed_forward = { kind = 'none' } }"
                    fix = f"use {plain}" + (f" with cross, one of {', '.join(CROSS_KINDS)}" if attends else "")
                    yield f"{name}[{i}]: ", "a layer of family='recurrent' is an LSTM and nothing else", fix
                elif cross and (problem := cross.problem(self.hidden, "none")):
                    yield f"{name}[{i}].cross.", *problem

    @cached_property
    def id(self) -> str:
        """Returns the first 12 hex digits of the SHA-256 of the canonical JSON."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def depth(self) -> int:
        return len(self.blocks)

    def __str__(self) -> str:
        """Writes one line for tables: hidden 64: 2× softmax heads=4 swiglu."""
        family = "" if self.family == "decoder" else f"{self.family.replace('_', '-')} "
        stacks = " → ".join(filter(None, (_runs(self.encoder_blocks), _runs(self.blocks))))
        extras = ["" if self.tied else "untied", f"passed {self.repeat} times" if self.repeat > 1 else ""]
        extras.append(f"{self.pooling} token" if self.pooling != "mean" else "")
        return ", ".join([f"{family}hidden {self.hidden}: {stacks}", *filter(None, extras)])


def _parsed(text: str | bytes | bytearray) -> Any:
    """Parses a JSON text. Raises InvalidArchitecture."""
    try:
        return files.parse_json(text if isinstance(text, str) else bytes(text).decode("utf-8"))
    except ValueError as error:
        help = "give what `model_dump_json` writes"
        raise InvalidArchitecture(f"architecture: this cannot be read as JSON: {error}; {help}") from None


LSTM_LAYER = Block.model_validate({"attention": {"kind": "lstm"}, "feed_forward": {"kind": "none"}})
"""The block that the recurrent family is made of."""


def too_large(hidden: int, blocks: int, repeat: int) -> Problem | None:
    """Returns the problem and its fix when a stack of so many blocks is beyond what `nas` builds (nas.bounds)."""
    if hidden**2 * blocks > bounds.HIDDEN_SQUARED_BLOCKS:
        most = bounds.HIDDEN_SQUARED_BLOCKS // hidden**2
        return (
            f"hidden={hidden} with {blocks} blocks is too large",
            f"use at most {most} blocks, or a smaller hidden size",
        )
    if blocks * repeat > bounds.REPEATED_BLOCKS:
        text = f"{blocks} blocks, passed {repeat} times, are more than {bounds.REPEATED_BLOCKS}"
        return text, "use fewer blocks, or a smaller repeat"
    return None


def _runs(blocks: tuple[Block, ...]) -> str:
    """Groups equal neighbours, with their number."""
    runs = [(text, len(list(run))) for text, run in groupby(map(str, blocks))]
    return " + ".join(f"{n}× {text}" if n > 1 else text for text, n in runs)


def path_of(location: tuple[int | str, ...]) -> str:
    """Converts ("blocks", 2, "attention", "softmax", "heads") to blocks[2].attention.heads (the union's tag is left
    out).
    """
    path = ""
    for before, part in zip((None, *location), location, strict=False):
        if isinstance(part, int):
            path += f"[{part}]"
        elif before not in UNIONS:
            path += f".{part}" if path else part
    return path


def first_error(error: ValidationError) -> ErrorDetails:
    """Picks the error to tell first: an unknown key explains why another is missing, not the other way round.

    Defaults that could not be computed because of another error are not errors themselves.
    """
    errors = [e for e in error.errors(include_url=False) if e["type"] != "default_factory_not_called"]
    return next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])


def sentence(error: ValidationError) -> str:
    """Describes the first error that pydantic found, with path and value."""
    first = first_error(error)
    if first["type"] == "union_tag_invalid":
        kind = first["ctx"]["tag"]
        known = CROSS_KINDS if first["loc"][-1] == "cross" else ATTENTION_SPECS
        return f"{path_of(first['loc'])}.kind={quoted(kind)} is unknown; {nearest(kind, known)}"
    path, value = path_of(first["loc"]), first.get("input")
    if first["type"] in ("missing", "extra_forbidden", "json_invalid") or isinstance(value, (dict, list)):
        return f"{path or 'architecture'}: {first['msg'].lower()}"
    return f"{path or 'architecture'}={quoted(value)}: {first['msg'].lower()}"
