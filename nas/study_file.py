"""The study file: everything that defines a search, in TOML, checked before anything runs.

`load(path, overrides)` gives a frozen `StudyFile` with every default filled in; `to_toml()` writes that resolved
form back, and the study keeps it. Whatever is wrong is told with its line, its value and the nearest valid name.
"""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from nas.architecture import Architecture, first_error, path_of
from nas.errors import InvalidArchitecture, InvalidStudyFile, NasError, UsageError, nearest
from nas.results import Constraint, Goal, Objective, metric
from nas.space import Space, SpaceSettings
from nas.toml_table import Table, apply_override, as_tuple, distinct, duration, line_of


def _increasing(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(set(values)) or not values or values[0] <= 0 or values[-1] != 1:
        raise ValueError("rungs are rising fractions of the steps, above 0, and the last is 1.0")
    return values


class TaskSettings(Table):
    """What is learned, from which text, with how many tokens in sight."""

    kind: Literal["language_modelling"] = "language_modelling"
    corpus: str = "python-docs"
    context: int = Field(default=64, ge=2)
    split: Literal["80/10/10", "90/10"] = "80/10/10"


class TrainSettings(Table):
    """One training run. `learning_rate`: none = the recipe's own, scaled by width; a list = searched."""

    steps: PositiveInt = 200
    batch: PositiveInt = 16
    rungs: Annotated[tuple[float, ...], BeforeValidator(as_tuple), AfterValidator(_increasing)] = (0.25, 0.5, 1.0)
    optimiser: Literal["muon", "adamw"] = "muon"
    learning_rate: Annotated[tuple[float, ...], BeforeValidator(as_tuple), AfterValidator(distinct)] | None = None
    warmup: float = Field(default=0.05, ge=0, lt=1)
    clip: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    evaluation_tokens: PositiveInt = 65536
    time_limit: Annotated[float, BeforeValidator(duration)] | None = Field(default=None, gt=0)


class MeasureSettings(Table):
    """The workload that is timed: a prompt, then tokens one by one up to the context."""

    batch: PositiveInt = 1
    prompt: PositiveInt | None = None
    threads: PositiveInt = 1
    repeats: PositiveInt = 30


class ObjectiveSettings(Table):
    metric: str
    goal: Goal | None = None


class ConstraintSettings(Table):
    metric: str
    max: float | None = None
    min: float | None = None

    @model_validator(mode="after")
    def _limited(self) -> Self:
        if self.max is None and self.min is None:
            raise ValueError("expected `max`, `min` or both")
        return self


class SearchSettings(Table):
    trials: PositiveInt = 24
    sampler: Literal["auto", "tpe", "nsga2", "random"] = "auto"
    seed: int = Field(default=0, ge=0, lt=2**31)


class ResourceSettings(Table):
    device: Literal["auto", "cpu", "cuda"] = "auto"
    cpus_per_trial: float = Field(default=1.0, gt=0)
    gpus_per_trial: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
            raise ValueError("gpus_per_trial above 1 must be a whole number")
        return self


class BaselineSettings(Table):
    """An architecture in short: `depth` equal blocks."""

    hidden: PositiveInt
    depth: PositiveInt
    attention: dict[str, Any]
    feed_forward: dict[str, Any] = Field(default_factory=dict)

    def architecture(self) -> Architecture:
        block = {"attention": self.attention, "feed_forward": self.feed_forward}
        return Architecture.model_validate({"hidden": self.hidden, "blocks": [block] * self.depth})


class StudyFile(Table):
    """A whole study, resolved."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    family: Literal["decoder"] = "decoder"
    task: TaskSettings = TaskSettings()
    space: SpaceSettings
    train: TrainSettings = TrainSettings()
    measure: MeasureSettings = MeasureSettings()
    objectives: tuple[ObjectiveSettings, ...] = Field(min_length=1, max_length=4)
    constraints: tuple[ConstraintSettings, ...] = ()
    search: SearchSettings = SearchSettings()
    resources: ResourceSettings = ResourceSettings()
    baselines: tuple[BaselineSettings, ...] = ()

    @model_validator(mode="after")
    def _meaningful(self) -> Self:
        tables: dict[str, tuple[ObjectiveSettings | ConstraintSettings, ...]]
        tables = {"objectives": self.objectives, "constraints": self.constraints}
        for table, entries in tables.items():
            seen: set[str] = set()
            for i, entry in enumerate(entries):
                where = f"{table}[{i}].metric"
                try:
                    metric(entry.metric)
                except UsageError as error:
                    raise InvalidStudyFile(error.message, code=error.code, where=where, help=error.help) from None
                if entry.metric in seen:
                    raise InvalidStudyFile(f"metric '{entry.metric}' is given twice", where=where, help="keep one")
                seen.add(entry.metric)
        Space(self.space)
        if self.measure.prompt is not None and self.measure.prompt >= self.task.context:
            raise InvalidStudyFile(
                f"a prompt of {self.measure.prompt} tokens leaves nothing to decode in context {self.task.context}",
                where="measure.prompt",
                help=f"use at most {self.task.context - 1}, or leave it out: half the context",
            )
        for i, baseline in enumerate(self.baselines):
            try:
                baseline.architecture()
            except InvalidArchitecture as error:
                raise InvalidStudyFile(error.message, code=error.code, where=f"baselines[{i}]") from None
        return self

    def objective_list(self) -> tuple[Objective, ...]:
        return tuple(Objective(o.metric, o.goal or metric(o.metric).goal) for o in self.objectives)

    def constraint_list(self) -> tuple[Constraint, ...]:
        return tuple(Constraint(c.metric, c.max, c.min) for c in self.constraints)

    def resolved(self) -> dict[str, Any]:
        """Plain data with every default filled in, None left out (TOML has none)."""
        data: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return data

    def to_toml(self) -> str:
        return tomli_w.dumps(self.resolved())


def load(path: Path | str, overrides: Sequence[str] = ()) -> StudyFile:
    """Read, override (`key=value`, as in `train.steps=100`) and check. Raises InvalidStudyFile."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = sorted(str(p) for p in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        found = "found there: " + ", ".join(near) if near else "`nas spaces` lists the study files at hand"
        raise InvalidStudyFile("no such study file", where=str(path), help=found) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidStudyFile(f"cannot be read as text: {error}", where=str(path)) from None
    return parse(text, overrides, source=str(path))


def parse(text: str, overrides: Sequence[str] = (), source: str = "study file") -> StudyFile:
    """The same for a text at hand; `source` names it in errors."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidStudyFile(f"not valid TOML: {error}", where=source) from None
    for override in overrides:
        apply_override(data, override)
    try:
        return StudyFile.model_validate(data)
    except InvalidStudyFile as error:
        raise _placed(error, text, source) from None
    except ValidationError as error:
        raise _placed(_explain(error), text, source) from None
    except NasError as error:
        raise InvalidStudyFile(error.message, code=error.code, where=source) from None


def _explain(error: ValidationError) -> InvalidStudyFile:
    """The first thing that pydantic found wrong, in the file's words."""
    first = first_error(error)
    location, value = first["loc"], first.get("input")
    where, name = path_of(location), str(location[-1]) if location else ""
    if first["type"] == "extra_forbidden":
        return InvalidStudyFile(f"unknown key '{name}'", where=where, help=nearest(name, _keys(location[:-1])))
    if first["type"] == "missing":
        return InvalidStudyFile(f"'{where}' is missing", where=where, code="missing-key")
    message, help = first["msg"].removeprefix("Value error, "), ""
    if first["type"] == "literal_error":
        message, help = "unknown value", nearest(str(value), re.findall(r"'([^']*)'", first["ctx"]["expected"]))
    if name == "name" and first["type"] == "string_pattern_mismatch":
        message = "a name is letters, digits, '_', '-' and '.', at most 64 of them"
    shown = "" if isinstance(value, (dict, list, tuple)) and len(repr(value)) > 80 else f" = {value!r}"
    return InvalidStudyFile(f"{where}{shown}: {message[0].lower()}{message[1:]}", where=where, help=help)


def _keys(location: tuple[int | str, ...]) -> list[str]:
    """The valid keys of the table at that location."""
    model: Any = StudyFile
    for part in location:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            model = next((a for a in getattr(annotation, "__args__", ()) if isinstance(a, type)), annotation)
    return list(model.model_fields)


def _placed(error: InvalidStudyFile, text: str, source: str) -> InvalidStudyFile:
    """The same error with file and line in front of the key's path."""
    line = line_of(text, error.where)
    where = f"{source}:{line}  {error.where}" if line else f"{source}  {error.where}"
    return InvalidStudyFile(error.message, code=error.code, where=where, detail=error.detail, help=error.help)
