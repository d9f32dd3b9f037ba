"""Reads the study file, the TOML file that defines a whole search, and checks it before anything runs.

`load(path, overrides)` gives a frozen `StudyFile` with every default filled in. `to_toml()` writes that resolved form
back, and the study keeps it. An error names its line, the value and the nearest valid name.
"""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import tomli_w
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    field_serializer,
    model_validator,
)

from nas import bounds, files
from nas.architecture import Family, first_error, path_of
from nas.errors import InvalidStudyFile, NasError, nearest
from nas.results import Constraint, Metric, Objective, metric
from nas.settings import protocol_versions, recipe_versions
from nas.settings.absent_file import which_file
from nas.settings.baseline import Baselines, BaselineSettings, ParameterBaseline, check_architectures
from nas.settings.metric_settings import MetricName, MetricSettings, check_used, own_metrics
from nas.settings.own_training import ARCHITECTURES_ALONE, OWN_TRAIN_KEYS, TrialSettings, check_parameter_study
from nas.settings.relative_corpus import place_corpus
from nas.settings.study_settings import (
    ConstraintSettings,
    MeasureSettings,
    ObjectiveSettings,
    ResourceSettings,
    SearchSettings,
    TrainSettings,
)
from nas.settings.target_settings import Targets, TargetSettings, base_of, check_targets, target_metrics
from nas.settings.task_settings import (
    TASK_KINDS,
    TASK_TABLES,
    TaskSettings,
    TextTask,
)
from nas.settings.user_config import NOT_IN_A_STUDY_FILE
from nas.settings.workload_check import check_workload
from nas.space.architecture_space import Space
from nas.space.parameter_settings import ParameterSettings, untagged
from nas.space.parameter_space import Design, ParameterSpace, SearchSpace
from nas.space.settings import AnySpace, FamilySpaces, SpaceSettings, by_family, place_of
from nas.toml_table import Table, apply_override, as_tuple, distinct, in_words, line_of, merged, tables_of

STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # others could lead out of `runs/`
DECODING = ("decode_ms_per_token", "decode_state_kib", "energy_mj_per_token")
"""These metrics need a model that generates, which an encoder does not."""


class StudyFile(Table):
    """Holds a whole study, resolved."""

    name: str = Field(pattern=f"^{STUDY_NAME.pattern}$")
    family: Annotated[tuple[Family, ...], BeforeValidator(as_tuple), AfterValidator(distinct)] = ("decoder",)
    task: TaskSettings = TextTask()
    space: AnySpace
    trial: TrialSettings | None = None
    train: TrainSettings = TrainSettings()
    measure: MeasureSettings = MeasureSettings()
    targets: Targets = ()
    metrics: dict[MetricName, MetricSettings] = Field(default_factory=dict, max_length=64)
    objectives: tuple[ObjectiveSettings, ...] = Field(min_length=1, max_length=4)
    constraints: tuple[ConstraintSettings, ...] = ()
    search: SearchSettings = SearchSettings()
    resources: ResourceSettings = ResourceSettings()
    baselines: Baselines = ()

    @model_validator(mode="after")
    def _meaningful(self) -> Self:
        check_used({"objectives": self.objectives, "constraints": self.constraints}, self.own_metrics())
        if isinstance(self.space, ParameterSettings):
            check_parameter_study(self.model_fields_set, self.train.model_fields_set)
            return self
        self._searchable()
        check_workload(self.task, self.family, self.train.batch, self.measure)
        check_targets(self.targets, self.task, self.family, own_body=self.trial is not None)
        check_architectures(self._short_baselines(), self.family[0], self.task.kind)
        return self

    def _searchable(self) -> None:
        """Raises InvalidStudyFile when the families, their spaces and the task do not go together."""
        kind, task = self.task.kind, TASK_KINDS[self.task.kind]
        for family in (f for f in self.family if f not in task.families):
            text = f"family '{family}' cannot learn the task '{kind}'"
            tasks = ", ".join(f"'{name}'" for name, other in TASK_KINDS.items() if family in other.families)
            help = f"use family {' or '.join(task.families)}, or one of the tasks {tasks}"
            raise InvalidStudyFile(text, where="family", help=help)
        places = {family: place_of(family, self.space) for family in self.family}
        Space(self.spaces(), places)
        for family, settings in self.spaces().items():
            if family == "recurrent" and task.has_source != bool(settings.encoder_depth):
                text = "has a source to read" if task.has_source else "has no source to read"
                help = "give encoder_depth and [[cross]]" if task.has_source else "leave encoder_depth and cross out"
                where = f"{places[family]}.encoder_depth"
                raise InvalidStudyFile(f"the task '{kind}' {text}", where=where, help=help)
            if not task.writes and False in settings.tied:
                text = f"the task '{kind}' has no output matrix that could be tied or not"
                raise InvalidStudyFile(text, where=f"{places[family]}.tied", help="leave `tied` out")
        used = [(f"objectives[{i}]", o.metric) for i, o in enumerate(self.objectives)]
        used += [(f"constraints[{i}]", c.metric) for i, c in enumerate(self.constraints)]
        some = {name for other in TASK_KINDS.values() for name in other.metrics}
        for where, name in used:
            if self.family == ("encoder",) and base_of(name) in DECODING:
                text = f"an encoder does not generate, so it has no '{name}'"
                raise InvalidStudyFile(text, where=f"{where}.metric", help="use prefill_ms")
            if base_of(name) in some - set(task.metrics):
                text = f"the task '{kind}' has no '{name}'"
                own = ", ".join(("val_loss", "val_accuracy", *task.metrics))
                raise InvalidStudyFile(text, where=f"{where}.metric", help=f"use one of {own}")

    def spaces(self) -> dict[Family, SpaceSettings]:
        """Returns the space of each family. Raises InvalidStudyFile where the space is one of parameters."""
        return by_family(self.family, self.space)

    def search_space(self) -> SearchSpace:
        """Returns the space that a search may choose from."""
        return ParameterSpace(self.space) if isinstance(self.space, ParameterSettings) else Space(self.spaces())

    def baseline_designs(self) -> list[Design]:
        """Returns the architectures or parameters that are tried first."""
        values = [baseline.parameters for baseline in self.baselines if isinstance(baseline, ParameterBaseline)]
        return [*values, *(short.architecture(self.family[0]) for short in self._short_baselines())]

    def _short_baselines(self) -> list[BaselineSettings]:
        return [baseline for baseline in self.baselines if isinstance(baseline, BaselineSettings)]

    @field_serializer("family")
    def _one_or_several(self, family: tuple[Family, ...]) -> str | list[str]:
        """Writes the families as a user does: the name alone, where there is only one."""
        return family[0] if len(family) == 1 else list(family)

    def own_metrics(self) -> dict[str, Metric]:
        """Returns the metrics that `[metrics.NAME]` tables declare, and those of the targets."""
        return own_metrics(self.metrics) | target_metrics(self.targets)

    def objective_list(self) -> tuple[Objective, ...]:
        own = self.own_metrics()
        goals = ((o, o.goal or metric(o.metric, own).goal) for o in self.objectives)
        return tuple(Objective(o.metric, goal, own.get(o.metric)) for o, goal in goals)

    def constraint_list(self) -> tuple[Constraint, ...]:
        own = self.own_metrics()
        return tuple(Constraint(c.metric, c.max, c.min, own.get(c.metric)) for c in self.constraints)

    def judged(self) -> tuple[Objective | Constraint, ...]:
        """Returns the objectives and limits, which decide about a trial."""
        return self.objective_list() + self.constraint_list()

    def resolved(self) -> dict[str, Any]:
        """Returns plain data with every default filled in; None is left out, since TOML has none."""
        data: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        for key in ("metrics", "targets"):
            if not data[key]:
                del data[key]  # a study without any is stored as ever
        if isinstance(self.space, ParameterSettings):
            data = {key: value for key, value in data.items() if key not in ARCHITECTURES_ALONE}
            if not self.baselines:
                del data["baselines"]
            data["train"] = {key: value for key, value in data["train"].items() if key in OWN_TRAIN_KEYS}
        return data

    def to_toml(self) -> str:
        return tomli_w.dumps(self.resolved())


def load(path: Path | str, overrides: Sequence[str] = (), preset: str | None = None) -> StudyFile:
    """Reads a study file, overrides it (`key=value`, as in `train.steps=100`) and checks it. Raises InvalidStudyFile.

    A preset is a table of the file, such as [presets.smoke], with the values that it changes; overrides come after it.
    The study is then named after both, as in translation-smoke.
    """
    path = Path(path)
    try:
        text = files.read_bytes(path, bounds.FILE_BYTES).decode("utf-8-sig")  # some editors put a mark at the front
    except FileNotFoundError:
        raise InvalidStudyFile("no such study file", where=str(path), help=which_file(path)) from None
    except (OSError, ValueError) as error:
        raise InvalidStudyFile(f"cannot be read as text: {error}", where=str(path)) from None
    file = parse(text, overrides, source=str(path), preset=preset, folder=path.parent)
    if file.trial:
        file.trial.read_from(path.parent)
    return file


def parse(
    text: str,
    overrides: Sequence[str] = (),
    source: str = "study file",
    preset: str | None = None,
    folder: Path | None = None,
) -> StudyFile:
    """Parses the text of a study file. `source` names it in errors, and a relative corpus starts at `folder`."""
    try:
        data = tables_of(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidStudyFile(f"not valid TOML: {error}", where=source) from None
    except ValueError as error:
        raise InvalidStudyFile(str(error), where=source) from None
    try:
        data = _preset(data, preset)
    except InvalidStudyFile as error:
        raise _placed(error, text, source) from None
    if folder is not None:
        place_corpus(data, folder)
    for override in overrides:
        apply_override(data, override)
    try:
        file = StudyFile.model_validate(data)
        recipe_versions.check(file.train.recipe)
        protocol_versions.check(file.measure.protocol)
        return file
    except InvalidStudyFile as error:
        raise _placed(error, text, source, preset) from None
    except ValidationError as error:
        raise _placed(_explain(error), text, source, preset) from None
    except NasError as error:
        raise InvalidStudyFile(error.message, code=error.code, where=source) from None


def _preset(data: dict[str, Any], name: str | None) -> dict[str, Any]:
    """Returns the file without its presets, changed by the one with that name. Raises InvalidStudyFile."""
    presets = data.pop("presets", {})
    tables = isinstance(presets, dict) and all(isinstance(changes, dict) for changes in presets.values())
    if not tables:
        text = "expected tables of what each preset changes"
        raise InvalidStudyFile(text, where="presets", help="for example [presets.smoke] with train.steps = 10")
    if name is None:
        return data
    if name not in presets:
        help = nearest(name, presets) if presets else f"give it a table [presets.{name}]"
        raise InvalidStudyFile(f"no preset '{name}'", code="no-such-preset", where="presets", help=help)
    named = {"name": f"{data['name']}-{name}"} if isinstance(data.get("name"), str) else {}
    return merged(data, named | presets[name])


def _explain(error: ValidationError) -> InvalidStudyFile:
    """Describes the first error that pydantic found, in the file's words."""
    first = first_error(error)
    first["loc"] = untagged(first["loc"])
    location, value = first["loc"], first.get("input")
    where, name = path_of(location), str(location[-1]) if location else ""
    if first["type"] == "extra_forbidden":
        help = NOT_IN_A_STUDY_FILE.get(where) or nearest(name, _keys(location[:-1]))
        return InvalidStudyFile(f"unknown key '{name}'", where=where, help=help)
    if first["type"] == "missing":
        return InvalidStudyFile(f"'{where}' is missing", where=where, code="missing-key")
    message, help = in_words(first), ""
    if first["type"] == "literal_error":
        message, help = "unknown value", nearest(str(value), re.findall(r"'([^']*)'", first["ctx"]["expected"]))
    if where == "task.kind":
        help = nearest(str(value), TASK_KINDS)
    if name == "[key]":  # of a table whose keys are names
        where, what = path_of(location[:-1]), "metric" if location[0] == "metrics" else "parameter"
        message = f"a {what}'s name is letters, digits and '_', a letter first, at most 64"
    if name == "name" and first["type"] == "string_pattern_mismatch" and location[0] == "targets":
        message = "a target's name is letters, digits and '-', a letter first, at most 32 of them"
    elif name == "name" and first["type"] == "string_pattern_mismatch":
        message = "a name is letters, digits, '_', '-' and '.', at most 64 of them"
    shown = "" if isinstance(value, (dict, list, tuple)) and len(repr(value)) > 80 else f" = {value!r}"
    return InvalidStudyFile(f"{where}{shown}: {message[0].lower()}{message[1:]}", where=where, help=help)


def _keys(location: tuple[int | str, ...]) -> list[str]:
    """Returns the valid keys of the table at that location."""
    model: Any = StudyFile
    for part in location:
        if part in TAGS:
            model = TAGS[part]
        elif isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            model = next((a for a in getattr(annotation, "__args__", ()) if isinstance(a, type)), annotation)
    return list(model.model_fields)


TAGS: dict[Any, type[Table]] = {
    "one": SpaceSettings,
    "families": FamilySpaces,
    "parameters": ParameterSettings,
    "baselines": BaselineSettings,
    "targets": TargetSettings,
    **TASK_TABLES,
}
"""The tables at these parts of a location. Most are the tags that pydantic puts behind `space` and `task`."""


def _placed(error: InvalidStudyFile, text: str, source: str, preset: str | None = None) -> InvalidStudyFile:
    """Returns the error with file and line in front of the key's path; the line is the preset's where the preset sets
    it.
    """
    path, changed = error.where, f"presets.{preset}.{error.where}"
    if preset is not None and line_of(text, changed) != line_of(text, f"presets.{preset}"):
        path = changed
    line = line_of(text, path)
    where = f"{source}:{line}  {path}" if line else f"{source}  {path}"
    return InvalidStudyFile(error.message, code=error.code, where=where, detail=error.detail, help=error.help)
