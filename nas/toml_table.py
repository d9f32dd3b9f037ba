"""TOML tables: the frozen base of every settings class, numbers, lists of choices, one dotted key, a key's line."""

import re
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from nas.errors import UsageError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MOST_IN_A_RANGE = 1000

Count = Annotated[int, Field(strict=True, gt=0, le=10**9)]
"""A whole number from 1 on: neither 2.0 nor true."""
Number = Annotated[float, Field(strict=True)]
"""A number, not true; in a Table it is finite too."""


def duration(value: Any) -> Any:
    """ "90s", "30m", "1.5h", "2d" or a number of seconds → seconds. Raises ValueError."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", value)
    if not match or not float(match[1]):
        raise ValueError("expected a duration such as 90s, 30m or 1.5h")
    return float(match[1]) * UNITS[match[2] or "s"]


class Table(BaseModel):
    """One table of a study file: frozen, no key that it does not know, no number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def as_tuple(value: Any) -> Any:
    """A list of choices, or one choice, as a tuple."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def as_range(value: Any) -> Any:
    """{ low = 1, high = 4 } → (1, 2, 3, 4); a list or one number as it is. Raises ValueError."""
    if not isinstance(value, Mapping):
        return as_tuple(value)
    low, high = value.get("low"), value.get("high")
    if set(value) != {"low", "high"} or type(low) is not int or type(high) is not int or low > high:
        raise ValueError("expected { low = 1, high = 4 } with low <= high")
    if high - low >= MOST_IN_A_RANGE:
        raise ValueError(f"expected at most {MOST_IN_A_RANGE:,} numbers from low to high")
    return tuple(range(low, high + 1))


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The choices, when there is one at least and none is given twice. Raises ValueError."""
    if not values:
        raise ValueError("expected at least one choice")
    if len(set(map(repr, values))) < len(values):
        raise ValueError("a choice is given twice")
    return values


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one dotted key. The value is TOML; what is not TOML is taken as a string."""
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"expected key=value, got '{override}'", where="-s", help="for example -s train.steps=100")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    *parents, last = key.strip().split(".")
    place: Any = data
    for part in parents:
        if isinstance(place, list) and part.isdecimal() and int(part) < len(place):
            place = place[int(part)]
        elif isinstance(place, dict) and isinstance(place.setdefault(part, {}), (dict, list)):
            place = place[part]
        else:
            raise UsageError(f"'{key}' leads nowhere: '{part}' is not a table", where=f"-s {override}")
    if isinstance(place, list) and last.isdecimal() and int(last) < len(place):
        place[int(last)] = parsed
    elif isinstance(place, dict):
        place[last] = parsed
    else:
        raise UsageError(f"'{key}' leads nowhere: expected an index below {len(place)}", where=f"-s {override}")


def merged(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The data with the changes: tables key by key, everything else replaced."""
    found = dict(data)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if both else value
    return found


def line_of(text: str, path: str) -> int | None:
    """The line (from 1) on which the dotted path, such as `space.attention[1].heads`, is set; its table's line, or
    the deepest line that is a part of it, where it stands inside a longer value."""
    wanted = re.sub(r"\[(\d+)\]", r".\1", path).split(".") if path else []
    best, best_depth = None, 0
    table: list[str] = []
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[\s*([^\]]+?)\s*\]\]", line):
            index = counts[header[1]] = counts.get(header[1], -1) + 1
            table = here = [*header[1].split("."), str(index)]
        elif header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?$", line):
            table = here = header[1].split(".")
        elif key := re.match(r"\s*([A-Za-z0-9_.-]+)\s*=", line):
            here = table + key[1].split(".")
        else:
            continue
        if len(here) > best_depth and wanted[: len(here)] == here:
            best, best_depth = number, len(here)
    return best
