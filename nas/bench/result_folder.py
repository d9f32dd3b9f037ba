"""Protects the folder of a benchmark's results: only files that a benchmark wrote are replaced."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nas import files
from nas.architecture import sentence
from nas.errors import Conflict

HELP = "--out DIR   writes to another folder"


def claim(folder: Path, marks: Mapping[str, Collection[str]], names: Collection[str]) -> None:
    """Makes the folder before minutes of measuring, and checks that the files of these names may be replaced.

    `marks` are JSON files that identify a benchmark's results, each with its keys. Raises Conflict where a file has one
    of the names and no mark is there, OutOfReach when the disk cannot be written.
    """
    marked = [name for name in marks if os.path.lexists(folder / name)]
    for name in marked:
        read(folder / name, marks[name])
    found = sorted(name for name in {*names, *marks} if os.path.lexists(folder / name))
    if found and not marked:
        raise _foreign(folder, f"found: {', '.join(found[:5])}")
    files.check_writable(folder)


def read(path: Path, keys: Collection[str] = (), shape: TypeAdapter[Any] | None = None) -> dict[str, Any]:
    """Reads a JSON file that a benchmark wrote. Raises Conflict where it is another one, or damaged.

    It holds these keys, and its content has this shape.
    """
    files.refuse_links(path.parent, path.name)
    try:
        found = files.read_json(path)
    except (OSError, ValueError) as error:
        raise _foreign(path, str(error)) from error
    missing = [key for key in keys if not isinstance(found, dict) or key not in found]
    if missing:
        raise _foreign(path, f"it lacks {', '.join(missing)}")
    if shape is not None:
        check(path, found, shape)
    return dict(found)


def check(path: Path, found: Any, shape: TypeAdapter[Any]) -> Any:
    """Returns what stands in the file, parsed. Raises Conflict where it has another shape."""
    try:
        return shape.validate_python(found)
    except ValidationError as error:
        raise _foreign(path, sentence(error)) from None


def _foreign(place: Path, detail: str) -> Conflict:
    text = "a file stands there that no benchmark wrote, or that is damaged"
    return Conflict(text, code="not-a-benchmark", where=str(place), detail=detail, help=HELP)
