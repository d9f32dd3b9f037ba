"""Writing files whole or not at all."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from nas.errors import OutOfReach


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside the place, then move there, so that a reader finds the old file or the new one.

    Folders are made as needed. Raises OutOfReach when the disk refuses.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        beside.replace(path)
    except OSError as error:
        raise OutOfReach(
            "the file cannot be written",
            code="disk",
            where=str(path),
            detail=str(error),
            help="free some space, or choose a folder that you may write to",
        ) from error
    finally:
        with suppress(OSError):  # it is gone already, or never was
            beside.unlink()


def write_text(path: Path, text: str) -> None:
    replace(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
