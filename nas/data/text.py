"""Finds corpora of one text by name or path, checks them, and cuts them into splits.

`load("python-docs")` needs only Python, and `load("tinyshakespeare")` a file or a download. Other names are paths of
UTF-8 texts, plain or `.gz`. A fault raises a DataError that says what to do.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from nas.data import fetch
from nas.data.catalogue import DATASETS
from nas.errors import DataError

SplitRule = Literal["80/10/10", "90/10"]
Splits = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Corpus:
    """Holds a text, its source, and the SHA-256 of its UTF-8 bytes."""

    name: str
    source: str
    text: str
    sha256: str


def load(name: str) -> Corpus:
    """Reads the corpus of that name, or the text at that path. Raises DataError."""
    if name in CORPORA:
        source, content = CORPORA[name]()
        place = source
    else:
        path = fetch.path_of(name)
        source, content, place = path.name, fetch.read_named(path, CORPORA), str(path)
    return Corpus(name, source, _decode(content, place), hashlib.sha256(content).hexdigest())


def splits(characters: int, rule: SplitRule, context: int) -> Splits:
    """Returns [start, end) of train, val and test. Raises DataError when one cannot hold context + 1 characters.

    "90/10" validates and tests on the same last tenth, for comparison with published figures only.
    """
    eight, nine = characters * 8 // 10, characters * 9 // 10
    if rule == "90/10":
        spans: Splits = {"train": (0, nine), "val": (nine, characters), "test": (nine, characters)}
    else:
        spans = {"train": (0, eight), "val": (eight, nine), "test": (nine, characters)}
    check_length(spans, context, "characters")
    return spans


def check_length(spans: Splits, context: int, unit: str) -> None:
    """Raises DataError when a split cannot hold context + 1 units, such as characters."""
    shortest = min(spans, key=lambda name: spans[name][1] - spans[name][0])
    whole = max(end for _, end in spans.values())
    length = spans[shortest][1] - spans[shortest][0]
    if length < context + 1:
        fits = f"use context = {length - 1} or less, or a longer text" if length > 2 else "use a longer text"
        raise DataError(
            f"the text is too short for context {context}",
            code="corpus-too-short",
            where="task.corpus",
            detail=f"{whole} {unit} leave {length} for '{shortest}', which needs {context + 1}",
            help=fits,
        )


def _python_docs() -> tuple[str, bytes]:
    """Reads the language reference that CPython carries for help(): about 465,000 characters; versions differ."""
    from pydoc_data.topics import topics

    return "pydoc_data.topics", "\n".join(topics[name] for name in sorted(topics)).encode()


def _tinyshakespeare() -> tuple[str, bytes]:
    dataset = DATASETS["tinyshakespeare"]
    return dataset.urls[0], fetch.content(dataset)


CORPORA: dict[str, Callable[[], tuple[str, bytes]]] = {
    "python-docs": _python_docs,
    "tinyshakespeare": _tinyshakespeare,
}


def _decode(content: bytes, place: str) -> str:
    if not content.strip():
        raise DataError("the corpus is empty", code="corpus-empty", where=place, help="give a text with characters")
    nul = content.find(0)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        offset, reason = error.start, error.reason
    else:
        if nul < 0:
            return text.removeprefix("\ufeff")  # some editors put a byte order mark at the front
        offset, reason = nul, "a zero byte, which no text holds"
    raise DataError(
        "the corpus is not UTF-8 text",
        code="corpus-not-text",
        where=place,
        detail=f"byte {offset} is 0x{content[offset]:02x}: {reason}",
        help="convert it with: iconv -f ENCODING -t UTF-8 FILE > NEW_FILE",
    )
