"""Defines the search space: which architectures it has, how many, and how a trial chooses one.

A space offers valid combinations only. Optuna refuses to change the choices under one parameter name within a study. So
where the choices depend on an earlier one, the name says so (`softmax.heads@hidden=48`), and a choice with only one
possibility is no parameter. Distinct parameters give distinct architectures.
"""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nas.architecture import LSTM_LAYER, Architecture, Block, Family, FeedForward
from nas.kinds import Form, Kind
from nas.space.choosing import (
    ChoicePicker,
    Chooser,
    CombinationTable,
    Lookup,
    Picker,
    RandomChooser,
    ReplayPicker,
    Script,
)
from nas.space.settings import Menu, Rest, SpaceSettings, check_keys, crosses_of, menu
from nas.space.size_limits import check_size

MOST_KEPT = 20_000
"""So many architectures are kept, at most, by each family's space."""


class Space:
    """Holds the architectures that the settings of each family allow.

    Raises InvalidStudyFile when a head count fits no hidden size, a hidden size fits no attention entry, or a key does
    not belong to the family. `places` tells where each family's table stands in the file, for these errors.
    """

    def __init__(self, settings: Mapping[Family, SpaceSettings], places: Mapping[Family, str] | None = None) -> None:
        where = places or dict.fromkeys(settings, "space")
        self.families = {family: _FamilySpace(family, table, where[family]) for family, table in settings.items()}

    def size(self) -> int:
        """Counts the distinct architecture ids, exactly."""
        return sum(space.size() for space in self.families.values())

    def suggest(self, trial: Chooser) -> Architecture:
        """Chooses one architecture through `trial.suggest_categorical`."""
        return self._pick(ChoicePicker(trial))

    def sample(self, generator: random.Random) -> Architecture:
        """Draws one architecture by uniform choices."""
        return self.suggest(RandomChooser(generator))

    def walk(self) -> Iterator[tuple[dict[str, Any], Architecture]]:
        """Yields every architecture once, with its parameters."""
        indexes: list[int] | None = []
        while indexes is not None:
            script = Script(indexes)
            architecture = self.suggest(script)
            yield script.params, architecture
            indexes = script.following()

    def params_of(self, architecture: Architecture) -> dict[str, Any] | None:
        """Returns the parameters that choose this architecture; None when the space does not hold it."""
        follower = ReplayPicker(architecture, {})
        try:
            found = self._pick(follower)
        except LookupError:
            return None
        return follower.params if found.id == architecture.id else None

    def read(self, attributes: Mapping[str, Any]) -> Architecture:
        """Returns the architecture that a row's attributes hold, whether the space has it or not."""
        return Architecture.model_validate(attributes["architecture"])

    def _pick(self, picker: Picker) -> Architecture:
        family = picker.pick("family", list(self.families), lambda a: a.family)
        return self.families[family].pick(picker.under(f"{family}.") if len(self.families) > 1 else picker)


class _FamilySpace:
    """Holds the architectures of one family."""

    def __init__(self, family: Family, settings: SpaceSettings, where: str) -> None:
        check_keys(family, settings, where)
        check_size(settings, where)
        self.family, self.settings = family, settings
        self.hidden, self.depth = sorted(settings.hidden), sorted(settings.depth)
        self.encoder_depth = sorted(settings.encoder_depth or ())
        self.stack, self.encoder = _stacks(family, settings, where)
        self._made: dict[tuple[Any, ...], Architecture] = {}
        """The newest architectures by their parts: a search draws hundreds for each that it trains, often the same."""

    def size(self) -> int:
        stacks = sum(
            self.stack.size(hidden, depth) * self._encoders(hidden)
            for hidden, depth in itertools.product(self.hidden, self.depth)
        )
        return stacks * len(self.settings.tied) * len(self.settings.repeat)

    def pick(self, picker: Picker) -> Architecture:
        hidden: int = picker.pick("hidden", self.hidden, lambda a: a.hidden)
        depth: int = picker.pick("depth", self.depth, lambda a: a.depth)
        blocks, encoder_blocks = self.stack.pick(picker, hidden, depth), tuple[Block, ...]()
        if self.encoder:
            encoder_depth = picker.pick("encoder_depth", self.encoder_depth, lambda a: len(a.encoder_blocks))
            encoder_blocks = self.encoder.pick(picker, hidden, encoder_depth)
        tied = picker.pick("tied", self.settings.tied, lambda a: a.tied)
        repeat = picker.pick("repeat", self.settings.repeat, lambda a: a.repeat)
        # Blocks are known by identity, since the stacks keep each that they have made.
        key = (hidden, tied, repeat, *map(id, blocks), None, *map(id, encoder_blocks))
        if key not in self._made:
            if len(self._made) >= MOST_KEPT:
                self._made.clear()
            self._made[key] = Architecture(
                family=self.family,
                hidden=hidden,
                blocks=blocks,
                encoder_blocks=encoder_blocks,
                tied=tied,
                repeat=repeat,
            )
        return self._made[key]

    def _encoders(self, hidden: int) -> int:
        return sum(self.encoder.size(hidden, depth) for depth in self.encoder_depth) if self.encoder else 1


class _Stack:
    """Chooses a stack of blocks: each block separately where `mixed`, else one choice for all."""

    def __init__(self, side: str, menu: Menu, mixed: bool) -> None:
        self.side, self.menu, self.mixed = side, menu, mixed
        self.prefix = "encoder." if side == "encoder_blocks" else ""
        self.kinds = CombinationTable(
            {"hidden": h, "attention": kind}
            for h, mixers in menu.mixers.items()
            for kind in {s.kind: 0 for s, _ in mixers}
        )
        self.fields = {kind: CombinationTable(_mixer_rows(menu, kind)) for kind in menu.rests}
        self.rests = CombinationTable(
            {"attention": kind, **_labels(r)} for kind, rests in menu.rests.items() for r in rests
        )
        self.cross = _CrossRows(menu.crosses)
        self._blocks: dict[tuple[int, int, int], Block] = {}
        """The blocks made so far, by the identities of the parts, all of which the tables above hold."""

    def size(self, hidden: int, depth: int) -> int:
        return self.menu.size(hidden) ** depth if self.mixed else self.menu.size(hidden)

    def pick(self, picker: Picker, hidden: int, depth: int) -> tuple[Block, ...]:
        if not self.mixed:
            return (self._block(picker, hidden, self.prefix, 0),) * depth
        return tuple(self._block(picker, hidden, f"{self.prefix}block{i}.", i) for i in range(depth))

    def _block(self, picker: Picker, hidden: int, prefix: str, i: int) -> Block:
        """Narrows the blocks of this hidden size: the kind, the kind's own fields, the rest, the attention to the
        source.
        """

        def found(architecture: Architecture) -> Block:
            block: Block = getattr(architecture, self.side)[i]
            return block

        given = {"hidden": hidden}
        kind = self.kinds.pick(picker, given, f"{prefix}{{}}", lambda a, _: found(a).attention.kind)["attention"]
        mixer = self.fields[kind].pick(picker, given, f"{prefix}{kind}.{{}}", lambda a, name: _of_mixer(found(a), name))
        given = {"attention": kind}
        rest = self.rests.pick(picker, given, f"{prefix}{{}}", lambda a, name: _of_rest(found(a), name))
        cross = self.cross.pick(picker, hidden, prefix, lambda a: found(a).cross)
        key = (id(mixer), id(rest), id(cross))
        if key not in self._blocks:
            spec, position = mixer["spec"]
            self._blocks[key] = rest["rest"].around(spec, position, cross)
        return self._blocks[key]


class _LstmStack:
    """Chooses a stack of LSTM layers, of which the first may attend to a source."""

    def __init__(self, crosses: Mapping[int, Sequence[Kind | None]]) -> None:
        self.cross = _CrossRows(crosses)
        self._first: dict[Kind | None, Block] = {}

    def size(self, hidden: int, depth: int) -> int:
        return self.cross.size(hidden)

    def pick(self, picker: Picker, hidden: int, depth: int) -> tuple[Block, ...]:
        cross = self.cross.pick(picker, hidden, "", lambda a: a.blocks[0].cross)
        if cross not in self._first:
            self._first[cross] = LSTM_LAYER.model_copy(update={"cross": cross})
        return (self._first[cross], *(LSTM_LAYER,) * (depth - 1))


def _stacks(family: Family, settings: SpaceSettings, where: str) -> "tuple[_AnyStack, _AnyStack | None]":
    """Returns the stack that every family has, and the encoder of families that read a source."""
    nowhere: Mapping[int, Sequence[Kind | None]] = dict.fromkeys(settings.hidden, (None,))
    if family == "recurrent":
        crosses = crosses_of(settings, where) if settings.cross else nowhere
        return _LstmStack(crosses), _LstmStack(nowhere) if settings.encoder_depth else None
    form: Form = "bidirectional" if family == "encoder" else "causal"
    reads = family == "encoder_decoder"
    stack = _Stack("blocks", menu(settings, form, "attention", where, crosses=reads), settings.mixed)
    key = "encoder_attention" if settings.encoder_attention else "attention"
    encoder = _Stack("encoder_blocks", menu(settings, "bidirectional", key, where), settings.mixed) if reads else None
    return stack, encoder


_AnyStack = _Stack | _LstmStack


class _CrossRows:
    """Lists the ways to attend to the source, picked kind first; one of them may be no such attention."""

    def __init__(self, crosses: Mapping[int, Sequence[Kind | None]]) -> None:
        self.crosses = crosses
        specs = [(hidden, spec) for hidden, found in crosses.items() for spec in found if spec]
        self.kinds = CombinationTable(
            {"hidden": h, "cross": kind} for h, kind in dict.fromkeys((h, s.kind) for h, s in specs)
        )
        self.fields = {
            kind: CombinationTable({"hidden": h, **_fields(s), "spec": s} for h, s in specs if s.kind == kind)
            for kind in dict.fromkeys(spec.kind for _, spec in specs)
        }

    def size(self, hidden: int) -> int:
        return len(self.crosses[hidden])

    def pick(self, picker: Picker, hidden: int, prefix: str, lookup: Lookup) -> Kind | None:
        if self.crosses[hidden] == (None,):
            return None

        def found(architecture: Architecture, column: str) -> Any:
            return getattr(lookup(architecture), "kind" if column == "cross" else column, None)

        given = {"hidden": hidden}
        kind = self.kinds.pick(picker, given, f"{prefix}{{}}", found)["cross"]
        spec: Kind = self.fields[kind].pick(picker, given, f"{prefix}cross.{kind}.{{}}", found)["spec"]
        return spec


def _mixer_rows(menu: Menu, kind: str) -> Iterator[dict[str, Any]]:
    for hidden, mixers in menu.mixers.items():
        for spec, position in mixers:
            if spec.kind == kind:
                yield {"hidden": hidden, **_fields(spec), "position": position, "spec": (spec, position)}


def _fields(spec: Kind) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in type(spec).model_fields if name != "kind"}


def _labels(rest: Rest) -> dict[str, Any]:
    """Returns the rest of a block as plain values, since Optuna takes nothing else."""
    return {"feed_forward": _label(rest.feed_forward), "norm": rest.norm, "residual": rest.residual, "rest": rest}


def _label(feed_forward: FeedForward) -> str:
    return str(feed_forward) or "none"


def _of_mixer(block: Block, column: str) -> Any:
    return block.position if column == "position" else getattr(block.attention, column, None)


def _of_rest(block: Block, column: str) -> Any:
    return _label(block.feed_forward) if column == "feed_forward" else getattr(block, column)
