"""Files: written whole or not at all; read only where they are regular files of a bounded size."""

import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from nas.errors import OutOfReach


def read_bytes(path: Path, most: int) -> bytes:
    """An ordinary file as a whole. Raises OSError, and ValueError when it is larger, or no ordinary file.

    Never waits: a pipe or a device of that name is refused. What the kernel makes up while it is read (/proc) says that
    it has no size, and counts as empty.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no ordinary file")
        if found.st_size > most:
            raise ValueError(f"it is larger than {most:,} bytes")
        return file.read(found.st_size)


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
