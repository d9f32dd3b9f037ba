"""Keeps tokenised corpora on disk: each is made once on a machine, and every process maps the same file.

An entry is a folder `tokens/KEY` in the user's cache, with one file of 2- or 4-byte numbers for each array and
`about.json`. It is made in a folder beside its place and then moved there, so it is whole or not there at all. The key
is a hash of all that decides the tokens: the content's own hash, how it is cut into tokens, and the version of both.
"""

import hashlib
import json
import logging
import mmap
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from nas import files
from nas.data import fetch
from nas.data.text_census import Progress, silent
from nas.errors import DataError, OutOfReach

log = logging.getLogger(__name__)

ABOUT, ENDING, LOCK = "about.json", ".bin", ".lock"
NAME = re.compile("[0-9a-f]{32}")
SMALL = 2**16
"""Vocabularies up to this size take 2 bytes a token."""
MOST_ABOUT = 2**28
KINDS = ("|u1", "<u2", "<u4", "<i8")
"""Types of numbers that an entry may hold."""
POLL_SECONDS = 1.0

Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Entry:
    """Arrays of tokens by name, read-only, and what their maker told of them. `folder` is None where the cache could
    not be written."""

    arrays: Mapping[str, Integers]
    about: Mapping[str, Any]
    folder: Path | None


class TokenWriter:
    """Appends to the arrays of an entry, each of them a file."""

    def __init__(self, opened: Callable[[str], IO[bytes]]) -> None:
        self._opened, self._files, self._types = opened, dict[str, IO[bytes]](), dict[str, np.dtype[Any]]()

    def append(self, name: str, values: Integers) -> None:
        """All values of one array have one type."""
        if name not in self._files:
            self._files[name], self._types[name] = self._opened(name), values.dtype
        self._files[name].write(np.ascontiguousarray(values, self._types[name]).data)

    def finished(self) -> dict[str, IO[bytes]]:
        for file in self._files.values():
            file.flush()
        return self._files

    @property
    def types(self) -> dict[str, str]:
        return {name: kind.str for name, kind in self._types.items()}


Fill = Callable[[TokenWriter], Mapping[str, Any]]
"""Writes the arrays, and tells about them in JSON."""


def width(vocabulary: int) -> np.dtype[Any]:
    """The type that holds the tokens of a vocabulary of that size."""
    return np.dtype("<u2" if vocabulary <= SMALL else "<u4")


def folder() -> Path:
    return fetch.cache() / "tokens"


def obtain(key: Mapping[str, Any], fill: Fill, progress: Progress = silent) -> Entry:
    """Opens the entry of that key, which is made first where it is missing or not whole.

    Of several processes one makes it, while the others wait. Where the cache cannot be written, the tokens go to a
    temporary file of this process alone.
    """
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    place = folder() / name
    if found := _open(place):
        return found
    try:
        with _locked(place, progress):
            if found := _open(place):  # another process has made it meanwhile
                return found
            _make(place, fill)
    except OutOfReach as error:
        log.warning("the tokens of this corpus are not kept: %s (%s)", error.message, error.detail)
        return _unkept(fill)
    found = _open(place)
    assert found, place
    return found


def entries() -> Iterator[tuple[Path, dict[str, Any], int]]:
    """Yields (folder, what its maker told, bytes) of every entry that is whole."""
    for place in _places():
        if NAME.fullmatch(place.name) and (stored := _about(place)):
            yield place, stored["about"], sum(stored["bytes"].values())


def clean() -> tuple[int, int]:
    """Deletes all entries, and what killed processes left. Returns how many there were, and their bytes.

    An entry that a process is making stays. What a running search has mapped stays readable for it. Raises OutOfReach.
    """
    count, freed = 0, 0
    for place in list(_places()):
        name = place.name.split(".")[1] if place.name.startswith(".") else place.name
        if not NAME.fullmatch(name):
            continue  # not ours
        lock = FileLock(place.with_name(f"{name}{LOCK}"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        except OSError as error:
            raise _unwritable(place, error) from error
        try:
            names = [path.name for path in place.iterdir() if path.name == ABOUT or path.suffix == ENDING]
            freed += sum((place / name).lstat().st_size for name in names)
            files.delete_own(place, names)
            count += not place.name.startswith(".")
            Path(lock.lock_file).unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(place, error) from error
        finally:
            lock.release()
    return count, freed


def _places() -> Iterator[Path]:
    if folder().is_dir():
        yield from (place for place in sorted(folder().iterdir()) if place.is_dir() and not place.is_symlink())


def _unwritable(place: Path, error: OSError) -> OutOfReach:
    return OutOfReach(
        "the cache cannot be written",
        code="cache",
        where=str(place),
        detail=error.strerror or str(error),
        help="set NAS_CACHE to a folder that you may write to",
    )


def damaged(entry: Entry, error: Exception) -> DataError:
    """Returns the error of an entry whose maker told something that cannot be."""
    return DataError(
        "prepared data is damaged",
        code="prepared-text",
        where=str(entry.folder),
        detail=repr(error)[:500],
        help="nas data clean   deletes it, and it is prepared again",
    )


def release(array: Integers) -> None:
    """Gives back the memory of a mapped array: its pages stay in the system's own cache, but count no more for this
    process."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and (mapped := getattr(base, "_mmap", None)):
            mapped.madvise(mmap.MADV_DONTNEED)
            return
        base = base.base


@contextmanager
def _locked(place: Path, progress: Progress) -> Iterator[None]:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place.with_name(f"{place.name}{LOCK}"))
        while True:
            try:
                lock.acquire(timeout=POLL_SECONDS)
                break
            except Timeout:
                progress("waiting for another process that prepares it", 0, None)
    except OSError as error:
        raise _unwritable(place, error) from error
    try:
        yield
    finally:
        lock.release()


def _make(place: Path, fill: Fill) -> None:
    """Raises OutOfReach when the disk refuses."""
    for leftover in place.parent.glob(f".{place.name}.*{files.TEMPORARY}"):  # of a process that was killed
        files.delete_folder(leftover)
    unfinished = place.with_name(f".{place.name}.{os.getpid()}.{token_hex(4)}{files.TEMPORARY}")
    try:
        unfinished.mkdir()
        with ExitStack() as stack:
            writer = TokenWriter(lambda name: stack.enter_context((unfinished / f"{name}{ENDING}").open("wb")))
            about = fill(writer)
            sizes = dict[str, int]()
            for name, file in writer.finished().items():
                os.fsync(file.fileno())
                sizes[name] = file.tell()
        with (unfinished / ABOUT).open("wb") as file:
            told = {"about": about, "types": writer.types, "bytes": sizes}
            file.write(json.dumps(told, ensure_ascii=False).encode())
            file.flush()
            os.fsync(file.fileno())
        files.delete_folder(place)  # what stands there is not whole
        unfinished.rename(place)
    except OSError as error:
        raise _unwritable(place, error) from error
    finally:
        with suppress(OutOfReach):
            files.delete_folder(unfinished)


def _unkept(fill: Fill) -> Entry:
    with ExitStack() as stack:
        writer = TokenWriter(lambda name: stack.enter_context(tempfile.TemporaryFile()))
        about = fill(writer)
        arrays = {name: _mapped(file, writer.types[name]) for name, file in writer.finished().items()}
    return Entry(arrays, about, None)


def _open(place: Path) -> Entry | None:
    """The entry, or None where it is missing or not whole."""
    stored = _about(place)
    if stored is None:
        return None
    arrays = dict[str, Integers]()
    try:
        for name, size in stored["bytes"].items():
            with (place / f"{name}{ENDING}").open("rb") as file:
                if os.fstat(file.fileno()).st_size != size:
                    return None
                arrays[name] = _mapped(file, stored["types"][name])
        return Entry(arrays, stored["about"], place)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _about(place: Path) -> dict[str, Any] | None:
    try:
        stored = files.read_json(place / ABOUT, MOST_ABOUT)
    except (OSError, ValueError):
        return None
    return stored if isinstance(stored, dict) and {"about", "types", "bytes"} <= stored.keys() else None


def _mapped(file: IO[bytes], kind: str) -> Integers:
    """Raises ValueError for a type that no entry has."""
    if kind not in KINDS:
        raise ValueError(kind)
    if os.fstat(file.fileno()).st_size == 0:
        return np.empty(0, kind)
    return np.memmap(file, dtype=kind, mode="r")
