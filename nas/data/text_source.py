"""Finds the texts that a study names: a known corpus, files, patterns of files, or a data set of Hugging Face."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from glob import has_magic, iglob
from itertools import islice
from pathlib import Path
from typing import Any

from nas import bounds
from nas.data import fetch, text_stream
from nas.data.catalogue import DATASETS
from nas.data.rows import SPLIT_NAMES
from nas.data.text_stream import TABLES, Piece
from nas.errors import DataError
from nas.folders import absolute, is_there

HUGGING_FACE = "hf:"
PYTHON_DOCS = "python-docs"
KNOWN = (PYTHON_DOCS, "tinyshakespeare")
Seen = Callable[[bytes], object]


@dataclass(frozen=True)
class Part:
    """Documents that are read in order. `read(seen)` yields them, and tells `seen` the bytes that make up their hash.

    `split` names the split that they are for, or is empty. `stamp` changes when the part's file does; it is empty where
    nothing tells that. `size`: bytes on the disk, where known.
    """

    read: Callable[[Seen], Iterator[Piece]]
    split: str = ""
    stamp: tuple[Any, ...] = ()
    size: int | None = None


@dataclass(frozen=True)
class TextSource:
    """Describes what a study names as its corpus. `documents`: it holds many texts, each with an end of its own."""

    name: str
    origin: str
    place: str
    parts: tuple[Part, ...]
    documents: bool

    def pieces(self, seen: Seen = lambda part: None) -> Iterator[tuple[str, Piece]]:
        """Yields (split, piece) of all parts."""
        for part in self.parts:
            for piece in part.read(seen):
                yield part.split, piece

    @property
    def size(self) -> int | None:
        sizes = [part.size for part in self.parts]
        return None if None in sizes else sum(size or 0 for size in sizes)


def find(corpus: str | Sequence[str], column: str = text_stream.COLUMN) -> TextSource:
    """Finds the corpus of that name, the files at these paths or patterns, or `hf:NAME`. Raises DataError."""
    names = [corpus] if isinstance(corpus, str) else list(corpus)
    name = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1:,} more"
    if len(names) == 1 and names[0] in KNOWN:
        origin, content = _known(names[0])
        return TextSource(names[0], origin, origin, (_at_hand(content, origin),), documents=False)
    if len(names) == 1 and names[0].startswith(HUGGING_FACE):
        return TextSource(name, name, name, _hugging_face(names[0], column), documents=True)
    paths = [path for each in names for path in _paths(each)]
    if len(paths) > bounds.FILES:
        text = f"the corpus has more than {bounds.FILES:,} files"
        raise DataError(text, code="corpus-too-long", where="task.corpus", help="join some of them")
    tables = any(text_stream.suffix_of(path) in TABLES for path in paths)
    origin = paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1:,} more"
    parts = tuple(_file(path, column) for path in paths)
    return TextSource(name, origin, str(paths[0]) if len(paths) == 1 else name, parts, tables or len(paths) > 1)


def _known(name: str) -> tuple[str, bytes]:
    """The language reference that CPython carries for help() is about 465,000 characters, another text a version."""
    if name == PYTHON_DOCS:
        from pydoc_data.topics import topics

        return "pydoc_data.topics", "\n".join(topics[name] for name in sorted(topics)).encode()
    dataset = DATASETS[name]
    return dataset.urls[0], fetch.content(dataset)


def _at_hand(content: bytes, place: str) -> Part:
    def read(seen: Seen) -> Iterator[Piece]:
        parts = (content[start : start + text_stream.PIECE] for start in range(0, len(content), text_stream.PIECE))
        return text_stream.decoded(parts, place, seen)

    return Part(read, stamp=("sha256", hashlib.sha256(content).hexdigest()), size=len(content))


def _file(path: Path, column: str) -> Part:
    """Raises DataError where there is no such file."""

    def read(seen: Seen) -> Iterator[Piece]:
        try:
            yield from text_stream.pieces_of(path, column, seen)
        except FileNotFoundError:  # it has gone meanwhile
            raise fetch.missing(path, KNOWN) from None

    try:
        found = path.stat()
    except FileNotFoundError:
        raise fetch.missing(path, KNOWN) from None
    except (OSError, ValueError):
        return Part(read)  # reading it tells why
    stamp = (column, str(absolute(path)), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    return Part(read, stamp=stamp, size=found.st_size)


def _paths(named: str) -> list[Path]:
    """The path itself, or the files that fit a pattern, in order."""
    path = fetch.path_of(named)
    if not has_magic(named) or is_there(path):
        return [path]
    found = sorted(islice(iglob(str(path), recursive=True), bounds.FILES + 1))  # noqa: PTH207  absolute patterns too
    if not (fitting := [Path(each) for each in found if is_there(Path(each))]):
        raise DataError(
            f"no file fits the pattern '{named}'",
            code="corpus-missing",
            where="task.corpus",
            help="** stands for folders within folders; a relative pattern starts at the study file's folder",
        )
    return fitting


def _hugging_face(named: str, column: str) -> tuple[Part, ...]:
    """One part for each of its splits, training first, then validation and test."""
    parts = text_stream.rows_of(named.removeprefix(HUGGING_FACE), column)
    order = ("", "train", "val", "test")
    named_splits = {part: SPLIT_NAMES.get(part.lower(), "") for part in parts}
    return tuple(
        Part(
            partial(text_stream.pieces_of_rows, parts[part], column, f"{named}  {part} "),
            split=named_splits[part],
            stamp=(HUGGING_FACE, column, getattr(parts[part], "_fingerprint", "")),
        )
        for part in sorted(parts, key=lambda part: order.index(named_splits[part]))
    )
