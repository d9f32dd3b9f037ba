"""Reads and checks the `[space]` table of a study file, and expands it into the blocks that it allows."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, ValidationError

from nas import bounds
from nas.architecture import CROSS_KINDS, FAMILIES, Block, Family, FeedForward, first_error, path_of, sentence
from nas.errors import InvalidStudyFile, nearest
from nas.kinds import ATTENTION_SPECS, Form, Kind, Position, Problem, having
from nas.space.parameter_settings import ParameterSettings
from nas.spec import Flag
from nas.toml_table import Count, Number, Table, as_range, as_tuple, distinct

Depth = Annotated[Count, Field(le=bounds.BLOCKS)]
Choices = Mapping[str, Any]
"""One entry of `attention` or `cross`: a kind, and a value or a list of values for each of its fields."""


class FeedForwardChoices(Table):
    """Holds `[space.feed_forward]`: every kind with every ratio; "none" has no ratio."""

    kind: Annotated[
        tuple[Literal["swiglu", "gelu", "relu2", "none"], ...], BeforeValidator(as_tuple), AfterValidator(distinct)
    ] = ("swiglu",)
    ratio: Annotated[tuple[Number, ...], BeforeValidator(as_tuple), AfterValidator(distinct)] = (4.0,)
    bias: Annotated[tuple[Flag, ...], BeforeValidator(as_tuple), AfterValidator(distinct)] = (False,)

    def specs(self) -> tuple[FeedForward, ...]:
        """Returns the combinations. Raises InvalidArchitecture for an impossible ratio."""
        every = itertools.product(self.kind, self.ratio, self.bias)
        specs = [FeedForward(kind="none") if k == "none" else FeedForward(kind=k, ratio=r, bias=b) for k, r, b in every]
        return tuple(dict.fromkeys(specs))


class SpaceSettings(Table):
    """Holds the choices in `[space]`, or in `[space.FAMILY]` where there are several families.

    `attention`, `encoder_attention` and `cross` are arrays of tables. Each entry has its kind, and a list of choices
    for each field.
    """

    depth: Annotated[tuple[Depth, ...], BeforeValidator(as_range), AfterValidator(distinct)]
    hidden: Annotated[
        tuple[Annotated[Count, Field(le=bounds.HIDDEN)], ...], BeforeValidator(as_tuple), AfterValidator(distinct)
    ]
    mixed: Flag = False
    attention: tuple[dict[str, Any], ...] = ()
    feed_forward: FeedForwardChoices = FeedForwardChoices()
    position: Annotated[tuple[Position, ...], BeforeValidator(as_tuple), AfterValidator(distinct)] | None = None
    norm: Annotated[tuple[Literal["rms", "layer"], ...], BeforeValidator(as_tuple), AfterValidator(distinct)] = ("rms",)
    residual: Annotated[
        tuple[Literal["sequential", "parallel", "post"], ...], BeforeValidator(as_tuple), AfterValidator(distinct)
    ] = ("sequential",)
    tied: Annotated[tuple[Flag, ...], BeforeValidator(as_tuple), AfterValidator(distinct)] = (True,)
    repeat: Annotated[
        tuple[Annotated[Count, Field(le=bounds.REPEATED_BLOCKS)], ...],
        BeforeValidator(as_tuple),
        AfterValidator(distinct),
    ] = (1,)
    encoder_depth: Annotated[tuple[Depth, ...], BeforeValidator(as_range), AfterValidator(distinct)] | None = None
    encoder_attention: tuple[dict[str, Any], ...] = ()
    cross: tuple[dict[str, Any], ...] = ()


class FamilySpaces(Table):
    """Holds the `[space.FAMILY]` tables, one for each family of the study."""

    decoder: SpaceSettings | None = None
    encoder: SpaceSettings | None = None
    encoder_decoder: SpaceSettings | None = None
    recurrent: SpaceSettings | None = None


def _shape(space: Any) -> str:
    """Tells which kind of `[space]` table it is. The tag appears in pydantic's locations and in no message."""
    keys = space if isinstance(space, Mapping) else ()
    if isinstance(space, ParameterSettings) or "parameters" in keys:
        return "parameters"
    return "families" if isinstance(space, FamilySpaces) or set(keys) & set(FAMILIES) else "one"


AnySpace = Annotated[
    Annotated[SpaceSettings, Tag("one")]
    | Annotated[FamilySpaces, Tag("families")]
    | Annotated[ParameterSettings, Tag("parameters")],
    Discriminator(_shape),
]

COMMON = {"depth", "hidden", "tied"}
OF_ATTENTION = {"mixed", "attention", "feed_forward", "position", "norm", "residual", "repeat"}
OF_SOURCE = {"encoder_depth", "cross"}
KEYS: dict[Family, set[str]] = {
    "decoder": COMMON | OF_ATTENTION,
    "encoder": COMMON | OF_ATTENTION,
    "encoder_decoder": COMMON | OF_ATTENTION | OF_SOURCE | {"encoder_attention"},
    "recurrent": COMMON | OF_SOURCE,
}
"""The keys that each family's table may hold."""


def by_family(
    families: Sequence[Family], space: SpaceSettings | FamilySpaces | ParameterSettings
) -> dict[Family, SpaceSettings]:
    """Returns the settings of each family. Raises InvalidStudyFile unless each has exactly one table."""
    if isinstance(space, ParameterSettings):
        raise InvalidStudyFile("the space is one of parameters, not of architectures", where="space.parameters")
    if isinstance(space, SpaceSettings):
        if len(families) > 1:
            tables = ", ".join(f"[space.{family}]" for family in families)
            raise InvalidStudyFile("several families need a space each", where="space", help=f"give {tables}")
        return {families[0]: space}
    given: dict[Family, SpaceSettings] = {name: table for name in FAMILIES if (table := getattr(space, name))}
    for family in (f for f in families if f not in given):
        raise InvalidStudyFile(f"family '{family}' has no space", where="space", help=f"give [space.{family}]")
    for family in (f for f in given if f not in families):
        help = f"add it: family = {[*families, family]}"
        raise InvalidStudyFile(f"family '{family}' is not searched", where=f"space.{family}", help=help)
    return {family: given[family] for family in families}


def place_of(family: Family, space: SpaceSettings | FamilySpaces | ParameterSettings) -> str:
    """Tells where the family's table stands in the file."""
    return "space" if isinstance(space, SpaceSettings) else f"space.{family}"


def check_keys(family: Family, settings: SpaceSettings, where: str) -> None:
    """Raises InvalidStudyFile for a key of another family, and for a missing key."""
    fields = type(settings).model_fields
    for key in (name for name in fields if name not in KEYS[family]):
        if getattr(settings, key) != fields[key].get_default(call_default_factory=True):
            help = f"leave it out; a space of this family has {', '.join(n for n in fields if n in KEYS[family])}"
            raise InvalidStudyFile(f"'{key}' does not belong to family '{family}'", where=f"{where}.{key}", help=help)
    needed = ["attention"] if family != "recurrent" else []
    needed += ["encoder_depth", "cross"] if family == "encoder_decoder" else []
    needed += ["cross"] if family == "recurrent" and settings.encoder_depth else []
    needed += ["encoder_depth"] if family == "recurrent" and settings.cross else []
    for key in (key for key in needed if not getattr(settings, key)):
        raise InvalidStudyFile(f"'{where}.{key}' is missing", where=f"{where}.{key}", code="missing-key")


def check_entry(entry: Choices, kinds: Sequence[str], where: str) -> None:
    """Raises InvalidStudyFile when an entry has no kind, an unknown kind, or a field that the kind lacks."""
    if "kind" not in entry:
        raise InvalidStudyFile("an attention entry needs its `kind`", where=where)
    kind = entry["kind"]
    if not isinstance(kind, str) or kind not in ATTENTION_SPECS:
        help = nearest(str(kind), kinds)
        raise InvalidStudyFile(f"unknown attention kind {kind!r}", where=f"{where}.kind", help=help)
    if kind not in kinds:
        help = f"use one of {', '.join(kinds)}"
        raise InvalidStudyFile(f"attention kind {kind!r} is not allowed here", where=f"{where}.kind", help=help)
    fields = ATTENTION_SPECS[kind].model_fields
    for name in set(entry) - set(fields):
        raise InvalidStudyFile(f"unknown key '{name}'", where=f"{where}.{name}", help=nearest(name, fields))


def expand(entry: Choices, hidden: int, where: str) -> Iterator[Kind]:
    """Returns every valid spec of one entry at that hidden size, at its own default position.

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
            yield ATTENTION_SPECS[entry["kind"]].model_validate(fields, strict=True)
        except ValidationError as error:
            field = path_of(first_error(error)["loc"])
            raise InvalidStudyFile(f"kind '{entry['kind']}': {sentence(error)}", where=f"{where}.{field}") from None


@dataclass(frozen=True)
class Rest:
    """Describes a block without its attention."""

    feed_forward: FeedForward
    norm: Literal["rms", "layer"]
    residual: Literal["sequential", "parallel", "post"]

    def around(self, spec: Kind, position: Position, cross: Kind | None = None) -> Block:
        return Block.model_validate({"attention": spec, "position": position, "cross": cross, **vars(self)})


@dataclass(frozen=True)
class Menu:
    """Lists the blocks of one stack: any mixer of a hidden size, any rest that its kind allows, and any attention to
    the source.
    """

    mixers: Mapping[int, tuple[tuple[Kind, Position], ...]]
    rests: Mapping[str, tuple[Rest, ...]]
    crosses: Mapping[int, tuple[Kind | None, ...]]

    def size(self, hidden: int) -> int:
        """Counts the distinct blocks."""
        return sum(len(self.rests[spec.kind]) for spec, _ in self.mixers[hidden]) * len(self.crosses[hidden])


def menu(settings: SpaceSettings, form: Form, key: str, where: str, crosses: bool = False) -> Menu:
    """Makes the menu of the entries under that key (`attention`), in the file's order. `where` names the family's
    table.

    Raises InvalidStudyFile when an entry, a head count or a position fits nothing, or a hidden size no entry.
    """
    entries: Sequence[Choices] = getattr(settings, key)
    for i, entry in enumerate(entries):
        check_entry(entry, having(form), f"{where}.{key}[{i}]")
        _refuse_useless(entry, settings, f"{where}.{key}[{i}]")
    mixers = {}
    for hidden in settings.hidden:
        specs = (spec for i, entry in enumerate(entries) for spec in expand(entry, hidden, f"{where}.{key}[{i}]"))
        mixers[hidden] = tuple(_suiting(dict.fromkeys(specs), settings, hidden))
    for hidden in (h for h, found in mixers.items() if not found):
        raise InvalidStudyFile(f"no attention entry fits hidden={hidden}", where=f"{where}.hidden")
    examples = {spec.kind: (spec, position, hidden) for hidden, found in mixers.items() for spec, position in found}
    every = [
        Rest(*parts) for parts in itertools.product(settings.feed_forward.specs(), settings.norm, settings.residual)
    ]
    rests = {
        kind: tuple(rest for rest in every if rest.around(spec, position).problem(hidden, form) is None)
        for kind, (spec, position, hidden) in examples.items()
    }
    for kind in (kind for kind, found in rests.items() if not found):
        text = f"kind '{kind}' fits no choice of feed_forward and residual"
        raise InvalidStudyFile(text, where=f"{where}.{key}", help="add residual 'sequential' and a feed-forward")
    return Menu(mixers, rests, crosses_of(settings, where) if crosses else dict.fromkeys(settings.hidden, (None,)))


def _suiting(specs: Iterable[Kind], settings: SpaceSettings, hidden: int) -> Iterator[tuple[Kind, Position]]:
    """Returns the specs that can be built at this hidden size, each with every position that suits it."""
    for spec in specs:
        for position in settings.position or spec.positions[:1]:
            if spec.problem(hidden, position) is None:
                yield spec, position


def crosses_of(settings: SpaceSettings, where: str) -> dict[int, tuple[Kind | None, ...]]:
    """Returns the ways to attend to the source at each hidden size."""
    for i, entry in enumerate(settings.cross):
        check_entry(entry, CROSS_KINDS, f"{where}.cross[{i}]")
    found: dict[int, tuple[Kind | None, ...]] = {}
    for hidden in settings.hidden:
        specs = [s for i, entry in enumerate(settings.cross) for s in expand(entry, hidden, f"{where}.cross[{i}]")]
        found[hidden] = tuple(dict.fromkeys(spec for spec in specs if spec.problem(hidden, "none") is None))
        if not found[hidden]:
            raise InvalidStudyFile(f"no cross entry fits hidden={hidden}", where=f"{where}.hidden")
    return found


def _refuse_useless(entry: Choices, settings: SpaceSettings, where: str) -> None:
    """Raises InvalidStudyFile for a head count that fits no hidden size, and for an entry that no offered position
    suits.
    """

    def fits(choice: Choices, offered: SpaceSettings) -> bool:
        found = (_suiting(expand(choice, hidden, where), offered, hidden) for hidden in settings.hidden)
        return any(True for mixers in found for _ in mixers)

    kind, free = entry["kind"], settings.model_copy(update={"position": None})
    sizes = {"head_size": entry["head_size"]} if "head_size" in entry else {}
    for count in as_tuple(entry["heads"]) if "heads" in entry else ():
        if not fits({"kind": kind, "heads": count, **sizes}, free):
            raise InvalidStudyFile(
                f"heads={count!r} of kind '{kind}' fits no hidden size of {sorted(settings.hidden)}",
                where=f"{where}.heads",
                help="a head count divides the hidden size into heads of even size; leave this one out",
            )
        choice = {**entry, "heads": count}
        if not fits(choice, free):
            text, fix = _misfit(choice, settings.hidden, where)
            raise InvalidStudyFile(f"kind '{kind}': {text}", where=f"{where}.{text.partition('=')[0]}", help=fix)
    if settings.position and fits(entry, free) and not fits(entry, settings):
        offered, own = ", ".join(settings.position), ", ".join(ATTENTION_SPECS[kind].positions)
        help = f"add one of {own}, or leave 'position' out: each kind then has its own"
        raise InvalidStudyFile(f"kind '{kind}' takes no position of {offered}", where=f"{where}.kind", help=help)


def _misfit(choice: Choices, sizes: Sequence[int], where: str) -> Problem:
    """Says why an entry cannot be built, though its head count can: it names the first problem with another field."""
    problems = [p for hidden in sizes for spec in expand(choice, hidden, where) if (p := spec.problem(hidden))]
    if not problems:
        text = f"kv_heads={choice.get('kv_heads')!r} of heads={choice['heads']} is not a whole number"
        return text, "add 'all', or leave this head count out"
    return next((p for p in problems if not p[0].startswith("heads=")), problems[0])


def difference(stored: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[tuple[str, Any, Any]]:
    """Yields (path, stored value, value now) for every leaf in which two resolved settings differ; None where
    absent.
    """
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
