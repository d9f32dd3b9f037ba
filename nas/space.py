"""The search space: what may be chosen, how many architectures that is, and one drawn by a trial.

A space offers valid combinations only. The choices under one parameter name never change within a study (Optuna
refuses that), so where they depend on an earlier choice the name says so (`softmax.heads@hidden=48`), and a choice
with only one possibility is no parameter at all. Distinct parameters give distinct architectures.
"""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, Protocol, Self, TypeGuard

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, ValidationError, model_validator

from nas.architecture import ATTENTION_SPECS, Architecture, Block, FeedForward, Headed, sentence
from nas.errors import InvalidStudyFile, nearest
from nas.toml_table import Table, as_range, as_tuple, distinct


class FeedForwardChoices(Table):
    """`[space.feed_forward]`: every kind with every ratio."""

    kind: Annotated[tuple[Literal["swiglu", "gelu"], ...], BeforeValidator(as_tuple), AfterValidator(distinct)] = (
        "swiglu",
    )
    ratio: Annotated[tuple[float, ...], BeforeValidator(as_tuple), AfterValidator(distinct)] = (4.0,)

    @model_validator(mode="after")
    def _buildable(self) -> Self:
        self.specs()
        return self

    def specs(self) -> tuple[FeedForward, ...]:
        return tuple(FeedForward(kind=k, ratio=r) for k, r in itertools.product(self.kind, self.ratio))


class SpaceSettings(Table):
    """`[space]`: the choices. `attention` has a table an entry: its kind, and a list of choices for each field."""

    depth: Annotated[tuple[PositiveInt, ...], BeforeValidator(as_range), AfterValidator(distinct)]
    hidden: Annotated[tuple[PositiveInt, ...], BeforeValidator(as_tuple), AfterValidator(distinct)]
    mixed: bool = False
    attention: tuple[dict[str, Any], ...] = Field(min_length=1)
    feed_forward: FeedForwardChoices = FeedForwardChoices()

    @model_validator(mode="after")
    def _known(self) -> Self:
        for i, entry in enumerate(self.attention):
            where = f"space.attention[{i}]"
            if "kind" not in entry:
                raise InvalidStudyFile("an attention entry needs its `kind`", where=where)
            kind = entry["kind"]
            if kind not in ATTENTION_SPECS:
                help = nearest(str(kind), ATTENTION_SPECS)
                raise InvalidStudyFile(f"unknown attention kind {kind!r}", where=f"{where}.kind", help=help)
            fields = ATTENTION_SPECS[kind].model_fields
            for name in set(entry) - set(fields):
                help = nearest(name, fields)
                raise InvalidStudyFile(f"unknown key '{name}'", where=f"{where}.{name}", help=help)
        return self


class Chooser(Protocol):
    """The part of an Optuna trial that a space needs."""

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any: ...


class RandomChooser:
    """Uniform choices from a generator; `params` tells what was chosen."""

    def __init__(self, generator: random.Random) -> None:
        self.generator = generator
        self.params: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        self.params[name] = self.generator.choice(choices)
        return self.params[name]


class _Script:
    """Replays a list of choice indexes, then takes first choices; `sizes` tells how many there were at each."""

    def __init__(self, indexes: Sequence[int]) -> None:
        self.indexes, self.sizes = list(indexes), list[int]()
        self.params: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        if len(self.sizes) == len(self.indexes):
            self.indexes.append(0)
        self.params[name] = choices[self.indexes[len(self.sizes)]]
        self.sizes.append(len(choices))
        return self.params[name]

    def following(self) -> list[int] | None:
        """The indexes of the next choices in order; None after the last."""
        indexes = self.indexes
        while indexes and indexes[-1] == self.sizes[len(indexes) - 1] - 1:
            indexes = indexes[:-1]
        return [*indexes[:-1], indexes[-1] + 1] if indexes else None


class _Follower:
    """Chooses what leads to one given architecture. Raises LookupError where the space does not offer it."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.params: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        value = self._value(name.partition("@")[0])
        if value not in choices:
            raise LookupError(name)
        self.params[name] = value
        return value

    def _value(self, name: str) -> Any:
        if name in ("hidden", "depth"):
            return getattr(self.architecture, name)
        prefix, _, rest = name.partition(".")
        block = self.architecture.blocks[0]
        if prefix.startswith("block") and prefix[5:].isdigit():
            block, name = self.architecture.blocks[int(prefix[5:])], rest
        if name == "feed_forward":
            return str(block.feed_forward)
        return block.attention.kind if name == "attention" else getattr(block.attention, name.partition(".")[2], None)


class Space:
    """The architectures that the settings allow.

    Raises InvalidStudyFile when a head count fits no hidden size, or a hidden size no attention entry.
    """

    def __init__(self, settings: SpaceSettings) -> None:
        self.hidden, self.depth, self.mixed = sorted(settings.hidden), sorted(settings.depth), settings.mixed
        self.feed_forward = settings.feed_forward.specs()
        for i, entry in enumerate(settings.attention):
            _refuse_useless_heads(entry, self.hidden, f"space.attention[{i}]")
        self.specs = {hidden: _specs(settings.attention, hidden) for hidden in self.hidden}
        for hidden in (h for h, specs in self.specs.items() if not specs):
            raise InvalidStudyFile(f"no attention entry fits hidden={hidden}", where="space.hidden")
        self._dependencies = cache(self._find_dependencies)

    def size(self) -> int:
        """The number of distinct architecture ids, exactly."""
        blocks = [len(specs) * len(self.feed_forward) for specs in self.specs.values()]
        return sum(n**depth if self.mixed else n for n in blocks for depth in self.depth)

    def suggest(self, trial: Chooser) -> Architecture:
        """One architecture, chosen through `trial.suggest_categorical`."""
        hidden: int = _choose(trial, "hidden", self.hidden)
        depth: int = _choose(trial, "depth", self.depth)
        if self.mixed:
            blocks = tuple(self._block(trial, hidden, f"block{i}.") for i in range(depth))
        else:
            blocks = (self._block(trial, hidden, ""),) * depth
        return Architecture(hidden=hidden, blocks=blocks)

    def sample(self, generator: random.Random) -> Architecture:
        """One architecture by uniform choices."""
        return self.suggest(RandomChooser(generator))

    def walk(self) -> Iterator[tuple[dict[str, Any], Architecture]]:
        """Every architecture once, with its parameters."""
        indexes: list[int] | None = []
        while indexes is not None:
            script = _Script(indexes)
            architecture = self.suggest(script)
            yield script.params, architecture
            indexes = script.following()

    def params_of(self, architecture: Architecture) -> dict[str, Any] | None:
        """The parameters that choose this architecture; None when the space does not hold it."""
        chooser = _Follower(architecture)
        try:
            found = self.suggest(chooser)
        except LookupError:
            return None
        return chooser.params if found.id == architecture.id else None

    def _block(self, trial: Chooser, hidden: int, prefix: str) -> Block:
        """Narrow the specs of this hidden size: first the kind, then field by field whatever the kind owns."""
        kinds = list(dict.fromkeys(spec.kind for spec in self.specs[hidden]))
        everywhere = all(list(dict.fromkeys(s.kind for s in specs)) == kinds for specs in self.specs.values())
        name = f"{prefix}attention" if everywhere else f"{prefix}attention@hidden={hidden}"
        kind = _choose(trial, name, kinds)
        left = [spec for spec in self.specs[hidden] if spec.kind == kind]
        chosen = {"hidden": hidden}
        for field in _fields(kind):
            marks = ",".join(f"{key}={chosen[key]}" for key in self._dependencies(kind, field))
            values = sorted({getattr(spec, field) for spec in left})
            chosen[field] = _choose(trial, f"{prefix}{kind}.{field}" + (f"@{marks}" if marks else ""), values)
            left = [spec for spec in left if getattr(spec, field) == chosen[field]]
        options = [str(option) for option in self.feed_forward]
        feed_forward = self.feed_forward[options.index(_choose(trial, f"{prefix}feed_forward", options))]
        return Block(attention=left[0], feed_forward=feed_forward)

    def _find_dependencies(self, kind: str, field: str) -> tuple[str, ...]:
        """The fewest earlier choices (`hidden`, earlier fields of the kind) that settle the values on offer."""
        names = ("hidden", *itertools.takewhile(lambda name: name != field, _fields(kind)))
        offered: dict[tuple[Any, ...], set[Any]] = {}
        for hidden, specs in self.specs.items():
            for spec in (s for s in specs if s.kind == kind):
                earlier = (hidden, *(getattr(spec, name) for name in names[1:]))
                offered.setdefault(earlier, set()).add(getattr(spec, field))
        for count in range(len(names)):
            for subset in itertools.combinations(range(len(names)), count):
                groups: dict[tuple[Any, ...], set[frozenset[Any]]] = {}
                for earlier, values in offered.items():
                    groups.setdefault(tuple(earlier[i] for i in subset), set()).add(frozenset(values))
                if all(len(group) == 1 for group in groups.values()):
                    return tuple(names[i] for i in subset)
        return names


def expand(entry: Mapping[str, Any], hidden: int) -> Iterator[Headed]:
    """Every valid spec of one `[[space.attention]]` entry at that hidden size.

    Raises InvalidStudyFile where a choice is of the wrong type.
    """
    choices = {name: as_tuple(value) for name, value in entry.items() if name != "kind"}
    for values in itertools.product(*choices.values()):
        fields = dict(zip(choices, values, strict=True))
        kv_heads, heads = fields.get("kv_heads"), fields.get("heads", 4)
        if kv_heads == "half" and isinstance(heads, int) and heads % 2:
            continue
        if kv_heads in ("half", "all") and isinstance(heads, int):
            fields["kv_heads"] = heads if kv_heads == "all" else heads // 2
        try:
            spec = ATTENTION_SPECS[entry["kind"]].model_validate(fields)
        except ValidationError as error:
            raise InvalidStudyFile(f"kind '{entry['kind']}': {sentence(error)}", where="space.attention") from None
        if spec.problem(hidden) is None:
            yield spec


def difference(stored: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[tuple[str, Any, Any]]:
    """(path, stored value, value now) for every leaf in which two resolved settings differ; None where absent."""
    rows: list[tuple[str, Any, Any]] = []
    for key in sorted(set(stored) | set(now)):
        old, new = stored.get(key), now.get(key)
        place = f"{path}.{key}" if path else key
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            rows += difference(old, new, place)
        elif _are_tables(old) and _are_tables(new) and len(old) == len(new):
            for i, (one, other) in enumerate(zip(old, new, strict=True)):
                rows += difference(one, other, f"{place}[{i}]")
        elif old != new:
            rows.append((place, old, new))
    return rows


def _are_tables(value: Any) -> TypeGuard[Sequence[Mapping[str, Any]]]:
    return isinstance(value, Sequence) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _choose(trial: Chooser, name: str, choices: Sequence[Any]) -> Any:
    return choices[0] if len(choices) == 1 else trial.suggest_categorical(name, choices)


def _fields(kind: str) -> list[str]:
    return [name for name in ATTENTION_SPECS[kind].model_fields if name != "kind"]


def _specs(entries: Sequence[Mapping[str, Any]], hidden: int) -> tuple[Headed, ...]:
    """The distinct specs of all entries at one hidden size, in the order of the file."""
    return tuple(dict.fromkeys(spec for entry in entries for spec in expand(entry, hidden)))


def _refuse_useless_heads(entry: Mapping[str, Any], hidden: Sequence[int], where: str) -> None:
    for count in as_tuple(entry.get("heads", 4)):
        if not any(True for size in hidden for _ in expand({**entry, "heads": count}, size)):
            raise InvalidStudyFile(
                f"heads={count!r} of kind '{entry['kind']}' fits no hidden size of {list(hidden)}",
                where=f"{where}.heads",
                help="a head count divides the hidden size into heads of even size; leave this one out",
            )
