"""Reads texts piece by piece, so that a text of any size takes the memory of one piece.

A source is one or several files (plain text, JSON lines or Parquet, each of them packed with gzip or Zstandard or not),
a data set of Hugging Face, or bytes at hand. Whatever is wrong with one raises a DataError with its place.
"""

import codecs
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nas import bounds, files
from nas.data.fetch import RATIO, UNPACKED, bounded, incomplete, unreadable
from nas.data.formats import opened_hugging_face
from nas.errors import DataError

PIECE = 1 << 20
"""Bytes that are read at once."""
PACKED = (".gz", ".zst")
TABLES = (".jsonl", ".parquet")
ROWS_AT_ONCE = 256
COLUMN = "text"
"""The column of a table that holds the texts, unless a study names another."""


@dataclass(frozen=True)
class Piece:
    """Holds part of a document, in reading order; `last` where the document ends with it."""

    text: str
    last: bool


def pieces_of(path: Path, column: str, seen: Callable[[bytes], object]) -> Iterator[Piece]:
    """Yields the documents of a file: the whole text is one, or each row of a table.

    `seen` is told the unpacked bytes of the file in order, once each; those of a Parquet file as they are on the disk.
    """
    match suffix_of(path):
        case ".jsonl":
            yield from _json_lines(path, column, seen)
        case ".parquet":
            yield from _parquet(path, column, seen)
        case _:
            yield from decoded(unpacked(path), str(path), seen)


def suffix_of(path: Path) -> str:
    """Returns the ending of the file itself, whether it is packed or not."""
    return Path(path.stem).suffix if path.suffix in PACKED else path.suffix


def unpacked(path: Path) -> Iterator[bytes]:
    """Yields the bytes of a file, unpacked when its name ends in .gz or .zst. Raises DataError, and FileNotFoundError.

    A packed file may unpack to 100 times its size, or to 64 MiB, whatever is more: no text shrinks further.
    """
    try:
        with files.opened(path) as (file, size):
            if path.suffix not in PACKED:
                yield from bounded(file, min(size, bounds.TEXT_BYTES), PIECE, cut=True)
                return
            with _unpacking(file, path.suffix) as plain:
                yield from bounded(plain, min(max(UNPACKED, RATIO * size), bounds.TEXT_BYTES), PIECE)
    except FileNotFoundError:
        raise
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _not_packed(path, str(error)) from None
    except (OSError, ValueError) as error:
        if path.suffix == ".zst" and "ZSTD" in str(error):  # pyarrow has no exception of its own for it
            raise _not_packed(path, str(error)) from None
        raise unreadable(path, error) from None


def decoded(parts: Iterator[bytes], place: str, seen: Callable[[bytes], object]) -> Iterator[Piece]:
    """Yields UTF-8 bytes as text, without the mark that some editors put at the front. Raises DataError."""
    decoder, offset, start = codecs.getincrementaldecoder("utf-8")(), 0, True
    for part in parts:
        seen(part)
        text = _decode(decoder, part, offset, place)
        offset += len(part)
        if start and text:
            text, start = text.removeprefix("\ufeff"), False
        if text:
            yield Piece(text, last=False)
    yield Piece(_decode(decoder, b"", offset, place, final=True), last=True)


def rows_of(name: str, column: str) -> dict[str, Any]:
    """Opens a data set of Hugging Face: part (`train`, `val`, `test`, or "" where it has none) → its rows.

    `name` is a folder that `save_to_disk` wrote, or a name on the hub. Raises DataError.
    """
    parts = opened_hugging_face(name)
    for part, rows in parts.items():
        if column not in rows.column_names:
            raise _no_column(f"hf:{name}  {part}".rstrip(), column, list(rows.column_names))
    return {part: rows.select_columns([column]) for part, rows in parts.items()}


def pieces_of_rows(rows: Any, column: str, place: str, seen: Callable[[bytes], object]) -> Iterator[Piece]:
    """Yields each row's text as a document."""
    for number, row in enumerate(rows, start=1):
        text = _checked(row[column], column, f"{place}row {number}")
        seen(text.encode() + b"\0")
        yield Piece(text, last=True)


@contextmanager
def _unpacking(file: IO[bytes], suffix: str) -> Iterator[IO[bytes]]:
    if suffix == ".gz":
        with gzip.GzipFile(fileobj=file) as plain:
            yield plain  # type: ignore[misc]  # it reads as any binary file does
        return
    import pyarrow as pa

    with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as plain:
        yield plain


def _decode(decoder: Any, part: bytes, offset: int, place: str, final: bool = False) -> str:
    """`offset`: of the part in the file."""
    waiting = len(decoder.getstate()[0])
    try:
        text: str = decoder.decode(part, final)
    except UnicodeDecodeError as error:
        at, byte, reason = offset - waiting + error.start, error.object[error.start], error.reason
    else:
        nul = part.find(0)
        if nul < 0:
            return text
        at, byte, reason = offset + nul, 0, "a zero byte, which no text holds"
    raise DataError(
        "the corpus is not UTF-8 text",
        code="corpus-not-text",
        where=place,
        detail=f"byte {at} is 0x{byte:02x}: {reason}",
        help="convert it with: iconv -f ENCODING -t UTF-8 FILE > NEW_FILE",
    )


def _json_lines(path: Path, column: str, seen: Callable[[bytes], object]) -> Iterator[Piece]:
    for number, line in enumerate(_lines(unpacked(path), path, seen), start=1):
        if not line.strip():
            continue
        place = f"{path}  line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _bad_row(place, f"the line is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise _bad_row(place, f"the line is {line[:80]!r}, and not an object")
        if column not in row:
            raise _no_column(place, column, list(map(str, row)))
        yield Piece(_checked(row[column], column, place), last=True)


def _lines(parts: Iterator[bytes], path: Path, seen: Callable[[bytes], object]) -> Iterator[bytes]:
    rest = b""
    for part in parts:
        seen(part)
        *lines, rest = (rest + part).split(b"\n")
        yield from lines
        if len(rest) > bounds.LINE_BYTES:
            raise _bad_row(str(path), f"a line is longer than {bounds.LINE_BYTES:,} bytes")
    yield rest


def _parquet(path: Path, column: str, seen: Callable[[bytes], object]) -> Iterator[Piece]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with files.opened(path) as (file, size):
            for part in bounded(file, size, PIECE, cut=True):
                seen(part)
            file.seek(0)
            table, number = pq.ParquetFile(file), 0
            if column not in table.schema_arrow.names:
                raise _no_column(str(path), column, list(table.schema_arrow.names))
            for batch in table.iter_batches(batch_size=ROWS_AT_ONCE, columns=[column]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    yield Piece(_checked(text, column, f"{path}  row {number}"), last=True)
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        raise _bad_row(str(path), f"a text of the Parquet file is not UTF-8: {error}") from None
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _bad_row(str(path), f"the Parquet file cannot be read: {error}") from None


def _checked(text: Any, column: str, place: str) -> str:
    if not isinstance(text, str):
        raise _bad_row(place, f"{column} is not a text: {repr(text)[:80]}")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in _suspects(text)):
        raise _bad_row(place, f"{column} holds a zero byte, or half a character")
    return text


def _suspects(text: str) -> str:
    """Returns the text where it may hold half a character. No text that encodes as UTF-8 does."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text
    return ""


def _not_packed(path: Path, detail: str) -> DataError:
    kind, tool = ("gzip", "gzip") if path.suffix == ".gz" else ("Zstandard", "zstd")
    return incomplete(path, kind, detail, f"compress the text again with {tool}, or give it plain")


def _no_column(place: str, column: str, columns: list[str]) -> DataError:
    return DataError(
        f"no column '{column}'",
        code="missing-column",
        where=place,
        detail="columns: " + ", ".join(columns)[:500],
        help='task.column = "..."   names the one that holds the texts',
    )


def _bad_row(place: str, text: str) -> DataError:
    help = 'every row needs a text, as in {"text": "..."}'
    return DataError(f"a row cannot be used: {text}", code="bad-row", where=place, help=help)
