"""Reads a corpus once from end to end, and tells its hash, its length and the characters that occur.

What was found is kept in the cache beside the size and the times of each file, so that the next process need not read
the text again.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas import files
from nas.data import fetch
from nas.data.text_source import TextSource
from nas.errors import DataError, OutOfReach

POINTS = 0x110000
"""Code points of Unicode."""
VERSION = 1
"""Changes when a pass finds something else in an equal text."""

Progress = Callable[[str, int, int | None], None]
"""Is told what is being done, how many bytes are read, and how many there are, where that is known."""


def silent(stage: str, done: int, size: int | None) -> None:
    pass


@dataclass(frozen=True)
class Census:
    """Holds what one pass over a corpus finds.

    `sha256`: of the one text's bytes, or of the hashes of all files. `lengths`: split that the source names, or "" →
    its characters. `documents`: split → its documents. `alphabet`: the characters that occur, by code point.
    """

    sha256: str
    lengths: dict[str, int]
    documents: dict[str, int]
    alphabet: str


def take(source: TextSource, progress: Progress = silent) -> Census:
    """Reads the source, or remembers an earlier pass over equal files. Raises DataError, also where it is empty."""
    path = _place([part.stamp for part in source.parts])
    if path and (found := _remembered(path)):
        return found
    found = _count(source, progress)
    if path:
        with suppress(OutOfReach):  # a cache that cannot be written costs the next process a pass
            files.write_json(path, asdict(found))
    return found


def points_of(text: str) -> NDArray[np.uint32]:
    """The code points of a text."""
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def _count(source: TextSource, progress: Progress) -> Census:
    digests, done = list[bytes](), 0
    lengths, documents = dict[str, int](), dict[str, int]()
    occurs, blank = np.zeros(POINTS, dtype=bool), True
    for part in source.parts:
        digest = hashlib.sha256()
        for piece in part.read(digest.update):
            occurs[points_of(piece.text)] = True
            blank = blank and not piece.text.strip()
            lengths[part.split] = lengths.get(part.split, 0) + len(piece.text)
            documents[part.split] = documents.get(part.split, 0) + piece.last
            done += len(piece.text)
            progress("reading", done, source.size)
        digests.append(digest.digest())
    if blank:
        place = source.place
        raise DataError("the corpus is empty", code="corpus-empty", where=place, help="give a text with characters")
    sha256 = digests[0].hex() if len(digests) == 1 else hashlib.sha256(b"".join(digests)).hexdigest()
    alphabet = occurs.nonzero()[0].astype(np.uint32).tobytes().decode("utf-32-le")
    return Census(sha256, lengths, documents, alphabet)


def _place(stamps: list[tuple[Any, ...]]) -> Path | None:
    """Returns where the census of these files is kept; None where nothing tells whether they have changed."""
    if not all(stamps):
        return None
    key = hashlib.sha256(json.dumps([VERSION, stamps]).encode()).hexdigest()
    return fetch.cache() / "texts" / f"{key}.json"


def _remembered(path: Path) -> Census | None:
    try:
        stored = files.read_json(path)
        found = Census(**{field.name: stored[field.name] for field in fields(Census)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    sound = isinstance(found.sha256, str) and len(found.sha256) == 64 and isinstance(found.alphabet, str)
    counts = [found.lengths, found.documents]
    sound &= all(isinstance(c, dict) and all(isinstance(n, int) and n >= 0 for n in c.values()) for c in counts)
    return found if sound else None
