"""Reads tables (CSV, TSV, JSON lines, Parquet, data sets of Hugging Face) as rows, each with its place.

A table that cannot be read raises a DataError with its line.
"""

import codecs
import csv
import io
import json
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from nas import bounds
from nas.data import fetch
from nas.errors import DataError

csv.field_size_limit(2**31 - 1)  # texts may be longer than the default of 131,072 characters

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
HUGGING_FACE = "hf:"
ROWS_AT_ONCE = 1000
PART = "split"
"""The column that a data set of Hugging Face gets for the name of its parts."""
PARTS = ("train", "training", "val", "valid", "validation", "dev", "test")
"""The parts that are used; others, such as `unsupervised`, are ignored."""

Row = dict[str, Any]
Placed = tuple[str, Row]
"""A row's place, such as `line 12`, and the row as it was found."""


def parts_of(path: Path, known: Iterable[str]) -> Iterator[bytes]:
    """Yields the unpacked bytes of a table. Raises DataError, which proposes near names, also among `known` ones."""
    known = list(known)
    if ending_of(path) not in FORMATS:
        raise DataError(
            f"'{path}' is not a table",
            code="corpus-format",
            where="task.corpus",
            help=f"name a file that ends in {', '.join(FORMATS)} (or with .gz added), a data set ({', '.join(known)}),"
            f" or {HUGGING_FACE}NAME",
        )
    try:
        yield from fetch.parts_of(path)
    except FileNotFoundError:
        raise fetch.missing(path, known) from None


def ending_of(path: Path) -> str:
    """Returns the ending of the table's name, without .gz."""
    return Path(path.name.removesuffix(".gz")).suffix


def parsed(parts: Iterable[bytes], path: Path, read: Collection[str]) -> Iterator[Placed]:
    """Yields the rows of a table's bytes, each with its place. Raises DataError.

    `read` names the columns that matter. Other columns are None where leaving them out saves something.
    """
    suffix = ending_of(path)
    if suffix == ".parquet":
        yield from _parquet(parts, path, read)
    elif suffix == ".jsonl":
        yield from _json_lines(_pieces(parts, path), path)
    else:
        yield from _separated(_pieces(parts, path), path, tabs=suffix == ".tsv")


def _pieces(parts: Iterable[bytes], path: Path) -> Iterator[str]:
    """Yields the text in pieces that end with a line, without the mark that some editors put at the front."""
    decoder, offset, line, rest = codecs.getincrementaldecoder("utf-8")(), 0, 1, ""
    for part in chain(parts, [b""]):
        waiting = len(decoder.getstate()[0])
        try:
            text = decoder.decode(part, final=not part)
        except UnicodeDecodeError as error:
            raise DataError(
                "the table is not UTF-8 text",
                code="corpus-not-text",
                where=f"{path}  line {line + error.object[: error.start].count(10)}",
                detail=f"byte {offset - waiting + error.start} is 0x{error.object[error.start]:02x}: {error.reason}",
                help="convert it with: iconv -f ENCODING -t UTF-8 FILE > NEW_FILE",
            ) from None
        rest = (rest + text) if offset else text.removeprefix("\ufeff")
        offset += len(part)
        line += text.count("\n")
        whole, rest = rest[: (cut := rest.rfind("\n") + 1)], rest[cut:]
        if whole:
            yield whole
    if rest:
        yield rest


def _separated(pieces: Iterator[str], path: Path, tabs: bool) -> Iterator[Placed]:
    """Yields the rows of CSV or TSV text. The first line names the columns. Between tabs, quotes have no meaning."""
    quoting: Literal[0, 3] = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
    lines = chain.from_iterable(io.StringIO(piece, newline="") for piece in pieces)
    reader = csv.reader(lines, delimiter="\t" if tabs else ",", quoting=quoting, strict=True)
    line = 1  # where a row begins: quoted fields may hold line breaks
    try:
        header = next(reader, [])
        if twice := [name for i, name in enumerate(header) if name in header[:i]]:
            raise DataError(
                f"two columns are named '{twice[0]}'",
                code="bad-row",
                where=f"{path}  line 1",
                help="rename one of them",
            )
        line = reader.line_num + 1
        for fields in reader:
            if fields and len(fields) != len(header):
                raise DataError(
                    f"a row has {len(fields)} fields, and the header {len(header)}",
                    code="bad-row",
                    where=f"{path}  line {line}",
                    detail=", ".join(fields)[:200],
                    help="quote fields that hold a comma" if not tabs else "keep tabs out of the fields",
                )
            if fields:
                yield f"line {line}", dict(zip(header, fields, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            "the table cannot be read",
            code="bad-row",
            where=f"{path}  line {line}",
            detail=str(error),
            help="write it as CSV with quotes doubled inside quotes (RFC 4180)",
        ) from None


def _json_lines(pieces: Iterator[str], path: Path) -> Iterator[Placed]:
    # Not splitlines(), since texts may hold U+2028 and similar characters.
    lines = chain.from_iterable(piece.removesuffix("\n").split("\n") for piece in pieces)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            problem = "" if isinstance(row, dict) else f"is {line[:80]!r}, not an object"
        except json.JSONDecodeError as error:
            problem = f"is not JSON: {error.msg} at column {error.colno}"
        except (ValueError, RecursionError) as error:  # numbers of thousands of digits, or deeply nested lists
            problem = f"cannot be read: {error}"
        if problem:
            raise DataError(
                f"a line {problem}",
                code="bad-row",
                where=f"{path}  line {number}",
                help='one JSON object a line, as in {"text": "...", "label": 1}',
            )
        yield f"line {number}", row


def _parquet(parts: Iterable[bytes], path: Path, read: Collection[str]) -> Iterator[Placed]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with tempfile.TemporaryFile() as spooled:
        try:
            spooled.writelines(parts)
            spooled.seek(0)
            file = pq.ParquetFile(spooled)
            names = file.schema_arrow.names
            yield from _placed(_bounded(file, [name for name in names if name in read]), names, "")
        except UnicodeDecodeError as error:
            raise DataError(
                "a text column of the Parquet file is not UTF-8",
                code="corpus-not-text",
                where=str(path),
                detail=str(error),
                help="write it again with texts in UTF-8",
            ) from None
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise DataError(
                "the Parquet file cannot be read",
                code="bad-row",
                where=str(path),
                detail=str(error),
                help="it may be cut off, or two columns have one name, or it has values that Python lacks: write it"
                " again",
            ) from None


def _bounded(file: Any, columns: list[str]) -> Iterator[Row]:
    """Yields the rows, read part by part. Raises ValueError once they exceed the bounds of a table.

    Parquet stores equal values in almost no space, so the file's own size tells little.
    """
    count = size = 0
    for part in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns):
        size, count = size + part.nbytes, count + len(part)
        if size > bounds.TABLE_BYTES or count > bounds.ROWS:
            raise ValueError(f"it holds more than {bounds.ROWS:,} rows, or {bounds.TABLE_BYTES:,} bytes")
        yield from part.to_pylist()


def rows_of(name: str, parts: Mapping[str, Any], read: Collection[str]) -> Iterator[Placed]:
    """Yields the rows of what `opened_hugging_face` opened. `read` is as in `parsed`."""
    count = 0
    try:
        for part, rows in parts.items():
            wanted = [column for column in rows.column_names if column in read]
            kept = rows.select_columns(wanted or rows.column_names[:1])  # without any it would have no rows
            for place, row in _placed(kept, rows.column_names, f"{part} " if part else ""):
                count += 1
                yield place, {**row, PART: part} if part else row
    except Exception as error:  # every back end of that package has errors of its own
        raise _unreachable(name, error) from error
    if not count:
        raise _no_rows(name, parts)


def opened_hugging_face(name: str) -> dict[str, Any]:
    """Opens a data set: its part that has a use, or "" where there are no parts → its rows. Raises DataError."""
    try:
        import datasets
    except ImportError:
        raise DataError(
            "data sets of Hugging Face need a package that is not installed",
            code="missing-package",
            where="task.corpus",
            help="pip install 'nas[hf]'",
        ) from None
    try:
        folder = Path(name).expanduser()
        found = datasets.load_from_disk(folder) if folder.is_dir() else datasets.load_dataset(name)
    except Exception as error:  # every back end of that package has errors of its own
        raise _unreachable(name, error) from error
    parts = dict(found) if isinstance(found, datasets.DatasetDict) else {"": found}
    usable = {part: rows for part, rows in parts.items() if not part or part.lower() in PARTS}
    if not usable:
        raise _no_rows(name, parts)
    return usable


def _unreachable(name: str, error: Exception) -> DataError:
    return DataError(
        f"Hugging Face's data set '{name}' cannot be loaded",
        code="corpus-unreachable",
        where="task.corpus",
        detail=str(error)[:500],
        help="check the name and the network; or save it with save_to_disk, and name that folder",
    )


def _no_rows(name: str, parts: Iterable[str]) -> DataError:
    return DataError(
        f"Hugging Face's data set '{name}' has no usable rows",
        code="corpus-empty",
        where="task.corpus",
        detail="parts: " + ", ".join(parts),
        help="name its parts train, validation and test",
    )


def _placed(rows: Iterable[Mapping[str, Any]], names: Iterable[str], part: str) -> Iterator[Placed]:
    """Yields rows with their places, and None for the columns that were not read."""
    unread = dict.fromkeys(names)
    for number, row in enumerate(rows, start=1):
        yield f"{part}row {number}", {**unread, **row}
