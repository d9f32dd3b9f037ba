"""Reads the `[[baselines]]` tables of a study file: architectures in short form, or values of all parameters."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, RootModel, Tag, ValidationInfo

from nas import bounds
from nas.architecture import LSTM_LAYER, Architecture, Family
from nas.errors import InvalidArchitecture, InvalidStudyFile, nearest
from nas.kinds import Position
from nas.settings.task_settings import TASK_KINDS
from nas.space.parameter_settings import ParameterSettings, is_fixed, member, only
from nas.space.parameter_space import Parameters
from nas.spec import Flag
from nas.toml_table import Count, Table

Depth = Annotated[Count, Field(le=bounds.BLOCKS)]


class BaselineSettings(Table):
    """Describes an architecture in short: `depth` equal blocks, and `encoder_depth` of them where there is a source.

    `family` is by default the study's first. `cross` and the other fields of a block count for every block.
    """

    family: Family | None = None
    hidden: Annotated[Count, Field(le=bounds.HIDDEN)]
    depth: Depth
    encoder_depth: Depth | None = None
    attention: dict[str, Any] | None = None
    feed_forward: dict[str, Any] = Field(default_factory=dict)
    cross: dict[str, Any] | None = None
    position: Position | None = None
    norm: Literal["rms", "layer"] = "rms"
    residual: Literal["sequential", "parallel", "post"] = "sequential"
    tied: Flag = True
    repeat: Annotated[Count, Field(le=bounds.REPEATED_BLOCKS)] = 1

    def architecture(self, family: Family) -> Architecture:
        """Builds the architecture in the given family, unless it names its own. Raises InvalidArchitecture."""
        family = self.family or family
        block: dict[str, Any] = {"norm": self.norm, "residual": self.residual, "feed_forward": self.feed_forward}
        block |= {"attention": self.attention} if self.attention else {}
        block |= {"position": self.position} if self.position else {}
        crossing = {"cross": self.cross} if self.cross else {}
        if family == "recurrent":
            block = LSTM_LAYER.canonical() | ({"attention": self.attention} if self.attention else {})
            blocks = [block | crossing, *[block] * (self.depth - 1)]
        else:
            blocks = [block | crossing] * self.depth
        whole = {"family": family, "hidden": self.hidden, "blocks": blocks, "tied": self.tied, "repeat": self.repeat}
        return Architecture.model_validate(whole | {"encoder_blocks": [block] * (self.encoder_depth or 0)})


class ParameterBaseline(RootModel[dict[str, Any]]):
    """Holds the values of one baseline in a space of parameters, fixed ones included."""

    model_config = ConfigDict(frozen=True)

    @property
    def parameters(self) -> Parameters:
        """Returns the choice that the values make."""
        return Parameters(self.root)


def of_space(value: Any, info: ValidationInfo) -> Any:
    """Reads the tables as values of the parameters, where the space (a field before this one) is one of parameters.

    Raises InvalidStudyFile for a parameter that is unknown or absent, and for a value that the space lacks.
    """
    space = info.data.get("space")
    if not isinstance(space, ParameterSettings) or not isinstance(value, (list, tuple)):
        return value
    return [_values(each, space, f"baselines[{i}]") for i, each in enumerate(value)]


def kind_of(value: Any) -> str:
    """Returns the tag by which pydantic tells the two kinds of baselines apart."""
    return "values" if isinstance(value, ParameterBaseline) else "short"


Baselines = Annotated[
    tuple[
        Annotated[
            Annotated[BaselineSettings, Tag("short")] | Annotated[ParameterBaseline, Tag("values")],
            Discriminator(kind_of),
        ],
        ...,
    ],
    BeforeValidator(of_space),
    Field(max_length=bounds.BASELINES),
]


def _values(given: Any, space: ParameterSettings, where: str) -> ParameterBaseline:
    if isinstance(given, ParameterBaseline):
        given = given.root
    if not isinstance(given, Mapping):
        raise InvalidStudyFile("expected a table with a value for each parameter", where=where)
    for name in given:
        if name not in space.parameters:
            text = f"'{name:.80}' is no parameter of [space.parameters]"
            raise InvalidStudyFile(text, where=f"{where}.{name:.80}", help=nearest(str(name), space.parameters))
    found: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        if name not in given and not is_fixed(parameter):
            raise InvalidStudyFile(f"'{name}' is missing", where=where, code="missing-key", help="give it a value")
        try:
            found[name] = member(parameter, given[name]) if name in given else only(parameter)
        except ValueError as error:
            text = f"{where}.{name} = {given[name]!r:.80}: {error}"
            raise InvalidStudyFile(text, where=f"{where}.{name}") from None
    return ParameterBaseline(found)


def check_architectures(baselines: Sequence[BaselineSettings], family: Family, task: str) -> None:
    """Raises InvalidStudyFile for a baseline that cannot be built, or whose family or source the task does not
    allow.
    """
    known = TASK_KINDS[task]
    for i, baseline in enumerate(baselines):
        where = f"baselines[{i}]"
        try:
            built = baseline.architecture(family)
        except InvalidArchitecture as error:
            raise InvalidStudyFile(error.message, code=error.code, where=where) from None
        if built.family not in known.families:
            text = f"family '{built.family}' cannot learn the task '{task}'"
            raise InvalidStudyFile(text, where=f"{where}.family", help=f"use {' or '.join(known.families)}")
        if bool(built.encoder_blocks) != known.has_source:
            text = f"the task '{task}' {'has a source' if known.has_source else 'has no source'} to read"
            help = "give encoder_depth and cross" if known.has_source else "leave encoder_depth and cross out"
            raise InvalidStudyFile(text, where=f"{where}.encoder_depth", help=help)
