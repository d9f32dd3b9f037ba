"""Reads TOML tables: the base of every settings class, numbers, lists of choices, one dotted key, a key's line.

A value beyond the bounds of `nas.bounds` is refused before it can take time or memory.
"""

import re
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails

from nas import bounds
from nas.errors import UsageError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Count = Annotated[int, Field(strict=True, gt=0, le=bounds.STEPS)]
"""A whole number from 1 on: neither 2.0 nor true."""
Number = Annotated[float, Field(strict=True)]
"""A number, not true; in a Table it is finite too."""

WORDS = {
    "too_short": "expected at least {min_length}, got {actual_length}",
    "too_long": "expected at most {max_length}, got {actual_length}",
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "expected a table"),
    **dict.fromkeys(("tuple_type", "list_type"), "expected a list"),
}
"""Words of a study file for the errors in which pydantic names Python's types, by the type of the error."""


def in_words(error: ErrorDetails) -> str:
    """Says what is wrong with a value: as pydantic does, but with tables and lists in place of Python's types."""
    if error["type"] in WORDS:
        return WORDS[error["type"]].format(**error.get("ctx", {}))
    return error["msg"].removeprefix("Value error, ")


def duration(value: Any) -> Any:
    """Converts "90s", "30m", "1.5h", "2d" or a number of seconds to seconds. Raises ValueError."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?) ?([smhd]?)", value.strip(), re.ASCII)
    if not match or not float(match[1]):
        raise ValueError("expected a duration such as 90s, 30m or 1.5h")
    seconds = float(match[1]) * UNITS[match[2] or "s"]
    if seconds > bounds.SECONDS:
        raise ValueError(f"expected at most {bounds.SECONDS // UNITS['d']}d")
    return seconds


class Table(BaseModel):
    """Holds one table of a study file: frozen, without unknown keys and with finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def as_tuple(value: Any) -> Any:
    """Returns a list of choices, or one choice, as a tuple."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def as_range(value: Any) -> Any:
    """Expands { low = 1, high = 4 } to (1, 2, 3, 4); a list or one number stays as it is. Raises ValueError."""
    if not isinstance(value, Mapping):
        return as_tuple(value)
    low, high = value.get("low"), value.get("high")
    if set(value) != {"low", "high"} or type(low) is not int or type(high) is not int or low > high:
        raise ValueError("expected { low = 1, high = 4 } with low <= high")
    if high - low >= bounds.CHOICES:
        raise ValueError(f"expected at most {bounds.CHOICES:,} numbers from low to high")
    return tuple(range(low, high + 1))


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the choices. Raises ValueError where there is none, where there are too many, or where one is given
    twice.
    """
    if not values:
        raise ValueError("expected at least one choice")
    if len(values) > bounds.CHOICES:
        raise ValueError(f"expected at most {bounds.CHOICES:,} choices, got {len(values):,}")
    if len(set(map(repr, values))) < len(values):
        raise ValueError("a choice is given twice")
    return values


def tables_of(text: str) -> dict[str, Any]:
    """Returns the tables of a TOML text. Raises ValueError for invalid TOML, and for values beyond the bounds."""
    if len(text) > bounds.FILE_BYTES:
        raise ValueError(f"expected at most {bounds.FILE_BYTES:,} characters, got {len(text):,}")
    for piece in re.split(r"[=,\[\]{}\n]", text):  # tomllib needs a minute for a key of 30,000 parts
        if len(re.findall(r"\.[ \t]*[\w\"'-]", piece)) >= bounds.KEY_PARTS:
            raise ValueError(f"expected at most {bounds.KEY_PARTS} names with dots between")
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"expected lists and tables at most {bounds.DEPTH} deep in each other") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # Python reads no longer ones
        raise ValueError(f"expected whole numbers up to {bounds.WHOLE:,}") from None
    check_values(data)
    return data


def check_values(data: Mapping[str, Any]) -> None:
    """Raises ValueError for tables nested too deeply, and for whole numbers that TOML does not allow."""
    level: list[Any] = [data]
    for _ in range(bounds.DEPTH):
        inside = [i for value in level for i in (value.values() if isinstance(value, Mapping) else value)]
        if any(isinstance(i, int) and abs(i) > bounds.WHOLE for i in inside):
            raise ValueError(f"expected whole numbers up to {bounds.WHOLE:,}")
        level = [i for i in inside if isinstance(i, (Mapping, list))]
    if level:
        raise ValueError(f"expected lists and tables at most {bounds.DEPTH} deep in each other")


def apply_override(data: dict[str, Any], override: str) -> None:
    """Sets one dotted key. The value is TOML; anything else is taken as a string. Raises UsageError."""
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"expected key=value, got '{override}'", where="-s", help="for example -s train.steps=100")
    where = f"-s {override}"
    *parents, last = key.strip().split(".")
    if len(parents) >= bounds.DEPTH:
        raise UsageError(f"expected a key of at most {bounds.DEPTH} names with dots between", where=where)
    parsed = _value(value, where)
    place: Any = data
    for part in parents:
        if isinstance(place, list) and _is_index(part, place):
            place = place[int(part)]
        elif isinstance(place, dict) and isinstance(place.setdefault(part, {}), (dict, list)):
            place = place[part]
        else:
            raise UsageError(f"'{key}' does not exist: '{part}' is not a table", where=where)
    if isinstance(place, list) and _is_index(last, place):
        place[int(last)] = parsed
    elif isinstance(place, dict):
        place[last] = parsed
    else:
        raise UsageError(f"'{key}' does not exist: expected an index below {len(place)}", where=where)


def _value(text: str, where: str) -> Any:
    """Returns the value of an override. Raises UsageError for one beyond the bounds."""
    try:
        found = tables_of(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    except ValueError as error:
        raise UsageError(str(error), where=where) from None
    return found["value"] if len(found) == 1 else text  # a line feed may bring more keys


def _is_index(part: str, place: list[Any]) -> bool:
    return part.isascii() and part.isdecimal() and len(part) <= len(str(len(place))) and int(part) < len(place)


def merged(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the data with the changes: tables key by key, everything else replaced."""
    found = dict(data)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if both else value
    return found


def line_of(text: str, path: str) -> int | None:
    """Returns the line (from 1) on which the dotted path, such as `space.attention[1].heads`, is set.

    Where the path is inside a longer value, it returns the line of its table, or the deepest line that is a part of it.
    """
    wanted = re.sub(r"\[(\d+)\]", r".\1", path).split(".") if path else []
    best, best_depth = None, 0
    table: list[str] = []
    counts: dict[str, int] = {}
    for number, line in enumerate(map(str.strip, text.split("\n")), 1):
        header, _, rest = line.lstrip("[").partition("]")
        header, name = header.strip(), line.partition("=")[0].rstrip()
        if line.startswith("[[") and rest.startswith("]"):
            index = counts[header] = counts.get(header, -1) + 1
            table = here = [*header.split("."), str(index)]
        elif line.startswith("[") and rest.lstrip()[:1] in ("", "#"):
            table = here = header.split(".")
        elif "=" in line and re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            here = table + name.split(".")
        else:
            continue
        if len(here) > best_depth and wanted[: len(here)] == here:
            best, best_depth = number, len(here)
    return best
