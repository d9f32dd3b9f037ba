"""Checks stored values as they are read: every attribute of a row or a study, by its type and bounds.

A database outlives the version that wrote it, may be copied while it is written, and can be edited by hand. A value
without the type that the rest of the code relies on is a Conflict (`error[damaged]`) with place and value. Attributes
that this version does not know pass unchanged.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn, TypeVar

from optuna.trial import FrozenTrial, TrialState
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from nas import files
from nas.errors import Conflict, NasError
from nas.settings import protocol_versions, recipe_versions
from nas.settings.study_file import StudyFile
from nas.space.parameter_settings import ParameterSettings
from nas.study.stored_maps import StoredMaps
from nas.study.stored_measurement import Measurements

MOST_STEPS, MOST_SECONDS, MOST_TRIALS = 10**12, 10**11, 10**7
"""No training has more steps, no time is longer in seconds (some 3,000 years), and no study has more trials."""
SHOWN = 80
"""The most characters of a value that an error shows."""
T = TypeVar("T")
Name = Annotated[str, Field(max_length=200)]
Text = Annotated[str, Field(max_length=100_000)]
Number = Annotated[float, Field(allow_inf_nan=False)] | bool
Whole = Annotated[int, Field(ge=0, le=MOST_TRIALS)]
Moment = Annotated[float, Field(ge=0, le=MOST_SECONDS)]
Metrics = Annotated[dict[Name, Number], Field(max_length=10_000)]
TWO = Field(min_length=2, max_length=2)
Steps = Annotated[int, Field(ge=0, le=MOST_STEPS)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class StoredRung(TypedDict):
    step: Steps
    seconds: Moment
    metrics: Metrics


class StoredVerdict(TypedDict, total=False):
    step: Steps
    reason: Name
    violations: Metrics


class StoredControl(TypedDict, total=False):
    skip: bool
    stop: Steps


class StoredOrigin(TypedDict):
    """Names the study and the number under which a trial was first trained."""

    study: Name
    number: Whole


class RowAttributes(TypedDict, total=False):
    """Describes what a trial stores of itself (docs/how_it_works.md)."""

    architecture_id: Name
    architecture: dict[str, Any]
    parameters: dict[Name, Any]
    metrics: Metrics
    measurement: Measurements
    rungs: Annotated[list[StoredRung], Field(max_length=10_000)]
    attempt: Whole
    attempts: Annotated[list[Annotated[list[Moment | None], TWO]], Field(max_length=100_000)]
    owner: Name
    slot: Whole
    proposed: Moment
    reason: Name
    detail: Text
    learning_rate: Number | None
    baseline: bool
    predicted: Metrics
    bound: Annotated[list[Number | None], Field(max_length=100)]
    redraws: Whole | None
    verdict: StoredVerdict
    control: StoredControl
    crashes: Whole
    retry_of: Whole
    taken_from: StoredOrigin
    retry: Whole
    decided_by: Annotated[dict[Name, Name | bool], Field(max_length=100)]


class ConfirmationAttributes(RowAttributes, total=False):
    """Describes what the job of a confirmation stores of itself (nas.study.stored_confirmations)."""

    seed: Seed
    steps: Steps
    test: Metrics
    began: Moment
    hardware: Name


class StoredData(TypedDict, total=False):
    name: Text
    sha256: Name
    tokenizer: Name
    vocabulary: Whole
    floors: dict[Name, dict[Name, Metrics]]


class StudyAttributes(TypedDict, total=False):
    """Describes what a study stores of itself; `settings` have a check of their own."""

    settings: dict[str, Any]
    data: StoredData
    environment: dict[str, Any]
    created: Moment
    budget: Annotated[int, Field(ge=1, le=MOST_TRIALS)]
    race: Annotated[list[Whole], TWO]


ROW, STUDY, METRICS = TypeAdapter(RowAttributes), TypeAdapter(StudyAttributes), TypeAdapter(Metrics)
MAPS, CONFIRMATION = TypeAdapter(StoredMaps), TypeAdapter(ConfirmationAttributes)
MEASUREMENTS = TypeAdapter(Measurements)
BELONGS = (("seed", "steps"), ("test", "seed"), ("began", "metrics", "hardware"))
"""A job of a confirmation that has the first of these attributes has the others too."""
SPAN = TypeAdapter(Annotated[list[Moment], TWO])
LIMIT = "constraints:"
"""Optuna 5 keeps Trial.set_constraint under keys that begin so; a test reads it back through Optuna."""
REMEASURED, WORKED, RACE = "remeasured:", "worked:", "race"
MEASUREMENT = "measurement:"
"""The way in which a later measurement was made is kept under this and the trial's number."""


def row(stored: FrozenTrial) -> FrozenTrial:
    """Returns the row, once its attributes are checked."""
    place = f"trial {stored.number}"
    if not 0 <= stored.number < MOST_TRIALS:
        damaged(place, "number", stored.number, "from 0 up")
    _check(ROW, stored.user_attrs, place)
    if stored.state is TrialState.COMPLETE and not stored.values:
        damaged(place, "values", None, "a number for each objective")
    violations(stored.system_attrs, place)
    return stored


def numbers(found: Iterable[int]) -> None:
    """Raises Conflict unless the trials of a study have the numbers from 0 up, each once."""
    for expected, number in enumerate(sorted(found)):
        if number != expected:
            wanted = f"{expected}, as each number is there once and none is left out"
            damaged(f"trial {expected}", "number", number, wanted)


def row_attributes(attributes: dict[str, Any], place: str) -> dict[str, Any]:
    """Returns these attributes of a row, all or some of its own, once they are checked."""
    _check(ROW, attributes, place)
    return attributes


def confirmation(attributes: dict[str, Any], place: str) -> dict[str, Any]:
    """Returns the attributes of a confirmation's job, once they are checked."""
    _check(CONFIRMATION, attributes, place)
    for first, *others in BELONGS:
        missing = next((name for name in others if first in attributes and name not in attributes), "")
        if missing:
            damaged(place, missing, "nothing", f"a value, as it has {first}")
    return attributes


def violations(system_attributes: Mapping[str, Any], place: str) -> dict[str, float]:
    """Returns how far a trial is over each limit, once these attributes are checked."""
    limits = {key: value for key, value in system_attributes.items() if key.startswith(LIMIT)}
    if limits:
        _check(METRICS, limits, place)
    return limits


def needed(attributes: Mapping[str, Any], key: str, number: int) -> Any:
    """Returns an attribute that every trial has.

    Raises Conflict where it is absent, as in a trial that another program added.
    """
    if key not in attributes:
        damaged(f"trial {number}", key, "nothing", "what nas writes first")
    return attributes[key]


def study(attributes: dict[str, Any]) -> dict[str, Any]:
    """Returns the study's attributes, once they are checked."""
    _check(STUDY, attributes, "study")
    for key, value in attributes.items():
        if key.startswith(WORKED):
            _check(SPAN, value, f"study, {key[:SHOWN]}")
        if key.startswith(MEASUREMENT):
            _check(MEASUREMENTS, value, f"study, {key[:SHOWN]}")
        if key.startswith(REMEASURED):
            number = key.removeprefix(REMEASURED)
            if not (number.isdecimal() and len(number) < 20):
                damaged("study", key[:SHOWN], value, "a trial's number in its name")
            _check(METRICS, value, f"study, {key[:SHOWN]}")
    return attributes


def remeasured(attributes: Mapping[str, Any]) -> dict[int, dict[str, float]]:
    """Returns the later measurements among a study's checked attributes, by trial number."""
    return {int(key.removeprefix(REMEASURED)): v for key, v in attributes.items() if key.startswith(REMEASURED)}


def measurement_of(attributes: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Returns how the later measurement of that trial was made; empty where there is none, or nobody stored it."""
    found: dict[str, Any] = attributes.get(f"{MEASUREMENT}{number}", {})
    return found


def attention_maps(stored: Any, place: str) -> dict[str, Any]:
    """Checks the attention maps of a trained model: each picture is complete, with equally many weights in each row."""
    fix = "delete the file; the report does not need it"
    _check(MAPS, stored, place, fix)
    for layer in stored["maps"]:
        for head in layer["weights"]:
            if not head or not head[0] or any(len(line) != len(head[0]) for line in head):
                damaged(place, f"weights of {layer['name']}", "rows of several lengths", "a picture", fix)
    return dict(stored)


def settings(attributes: Mapping[str, Any]) -> StudyFile:
    """Returns the stored study file. Raises Conflict, which names the version that wrote it if that is another."""
    stored = attributes["settings"]
    with _placed("study, settings", written_by(attributes)):
        file = StudyFile.model_validate(stored)
    if isinstance(file.space, ParameterSettings):
        return file
    # The studies of versions 0.1 and 0.2 store neither.
    if "recipe" not in file.train.model_fields_set:
        file = with_recipe(file, recipe_versions.FIRST)
    return file if "protocol" in file.measure.model_fields_set else with_protocol(file, protocol_versions.FIRST)


def with_recipe(file: StudyFile, version: int) -> StudyFile:
    """Returns the file with that version of the training recipe."""
    return file.model_copy(update={"train": file.train.model_copy(update={"recipe": version})})


def with_protocol(file: StudyFile, version: int) -> StudyFile:
    """Returns the file with that version of the protocol of measuring."""
    return file.model_copy(update={"measure": file.measure.model_copy(update={"protocol": version})})


def written_by(attributes: Mapping[str, Any]) -> str:
    """Returns the version of nas that made the study, from its environment; empty when it is not stored."""
    versions = attributes.get("environment", {}).get("versions")
    found = versions.get("nas") if isinstance(versions, Mapping) else None
    return found[:SHOWN] if isinstance(found, str) else ""


def read(text: object, place: str, name: str) -> Any:
    """Reads a JSON value of the database. Raises Conflict."""
    try:
        return files.parse_json(text)  # type: ignore[arg-type]  # any problem is reported
    except (ValueError, TypeError) as error:
        damaged(place, name, text, str(error))


def damaged(place: str, name: str, value: object, wanted: str, help: str = "") -> NoReturn:
    """Raises Conflict with place and value."""
    shown = value if isinstance(value, str) else repr(value)
    shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
    raise Conflict(
        f"the stored data is damaged, or from another version: {name}",
        code="damaged",
        where=place,
        detail=f"found {shown!r}" if isinstance(value, str) else f"found {shown}",
        help=help
        or f"it should be: {wanted}\nrestore a copy of the study's folder, or search again under another name",
    )


def _check(adapter: TypeAdapter[Any], value: object, place: str, help: str = "") -> None:
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part)[:SHOWN] for part in first["loc"] if part not in TAGS)
        missing = first["type"] == "missing"
        damaged(place, path or "value", "nothing" if missing else first.get("input"), first["msg"], help)


TAGS = {"constrained-float", "bool", "float", "int"}
"""pydantic adds these words to a place to name one of several types."""


@contextmanager
def _placed(place: str, version: str) -> Iterator[None]:
    """Returns the check's error with its place. The stored text is at fault here, and no file of the user's."""
    try:
        yield
    except (ValidationError, NasError) as error:
        said = error.message if isinstance(error, NasError) else _first(error)
        where = f"{place}: {error.where}" if isinstance(error, NasError) and error.where else place
        told = f"it was stored by nas {version}" if version else "it does not say which version of nas stored it"
        text = "the stored settings are damaged, or of another version of nas"
        help = "use the version that made the study, or search again under another name"
        raise Conflict(text, code="damaged", where=where, detail=f"{said}\n{told}", help=help) from error


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def call(read_it: Callable[[], T], place: str) -> T:
    """Returns what a read gives. Raises Conflict where Optuna or SQLAlchemy fails on a value of the wrong kind."""
    try:
        return read_it()
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, RecursionError) as error:
        text = str(error) if not isinstance(error, json.JSONDecodeError) else f"not valid JSON: {error}"
        damaged(place, type(error).__name__, text, "what Optuna writes")
