"""Reads tables (CSV, TSV, JSON lines, Parquet, data sets of Hugging Face) as rows, each with its place.

A table that cannot be read raises a DataError with its line.
"""

import csv
import io
import json
from codecs import BOM_UTF8
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from nas import bounds
from nas.data import fetch
from nas.errors import DataError

csv.field_size_limit(2**31 - 1)  # texts may be longer than the default of 131,072 characters

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
HUGGING_FACE = "hf:"
PART = "split"
"""The column that a data set of Hugging Face gets for the name of its parts."""
PARTS = ("train", "training", "val", "valid", "validation", "dev", "test")
"""The parts that are used; others, such as `unsupervised`, are ignored."""

Row = dict[str, Any]
Placed = tuple[str, Row]
"""A row's place, such as `line 12`, and the row as it was found."""


def content(path: Path, known: Iterable[str]) -> bytes:
    """Returns the unpacked bytes of a table. Raises DataError, which proposes near names, also among `known` ones."""
    known = list(known)
    if _ending(path) not in FORMATS:
        raise DataError(
            f"'{path}' is not a table",
            code="corpus-format",
            where="task.corpus",
            help=f"name a file that ends in {', '.join(FORMATS)} (or with .gz added), a data set ({', '.join(known)}),"
            f" or {HUGGING_FACE}NAME",
        )
    return fetch.read_named(path, known)


def _ending(path: Path) -> str:
    """Returns the ending of the table's name, without .gz."""
    return Path(path.name.removesuffix(".gz")).suffix


def parsed(content: bytes, path: Path, read: Collection[str]) -> Iterator[Placed]:
    """Yields the rows, each with its place. Raises DataError.

    `read` names the columns that matter. Other columns are None where leaving them out saves something.
    """
    suffix = _ending(path)
    if suffix == ".parquet":
        yield from _parquet(content, path, read)
        return
    text = _text(content, path)
    if suffix == ".jsonl":
        yield from _json_lines(text, path)
    else:
        yield from _separated(text, path, tabs=suffix == ".tsv")


def _text(content: bytes, path: Path) -> str:
    try:
        return content.removeprefix(BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        at = error.start + (len(BOM_UTF8) if content.startswith(BOM_UTF8) else 0)
        line = content[:at].count(b"\n") + 1
        raise DataError(
            "the table is not UTF-8 text",
            code="corpus-not-text",
            where=f"{path}  line {line}",
            detail=f"byte {at} is 0x{content[at]:02x}: {error.reason}",
            help="convert it with: iconv -f ENCODING -t UTF-8 FILE > NEW_FILE",
        ) from None


def _separated(text: str, path: Path, tabs: bool) -> Iterator[Placed]:
    """Yields the rows of CSV or TSV text. The first line names the columns. Between tabs, quotes have no meaning."""
    quoting: Literal[0, 3] = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if tabs else ",", quoting=quoting, strict=True)
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


def _json_lines(text: str, path: Path) -> Iterator[Placed]:
    # Not splitlines(), since texts may hold U+2028 and similar characters.
    for number, line in enumerate(text.split("\n"), start=1):
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


def _parquet(content: bytes, path: Path, read: Collection[str]) -> Iterator[Placed]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(content))
        names = file.schema_arrow.names
        rows = _bounded(file, [name for name in names if name in read])
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
            help="it may be cut off, or two columns have one name, or it has values that Python lacks: write it again",
        ) from None
    yield from _placed(rows, names, "")


def _bounded(file: Any, columns: list[str]) -> list[Row]:
    """Reads the rows part by part. Raises ValueError once they exceed the bounds of a table.

    Parquet stores equal values in almost no space, so the file's own size tells little.
    """
    rows, size = list[Row](), 0
    for part in file.iter_batches(batch_size=1000, columns=columns):
        size += part.nbytes
        if size > bounds.TABLE_BYTES or len(rows) > bounds.ROWS:
            raise ValueError(f"it holds more than {bounds.ROWS:,} rows, or {bounds.TABLE_BYTES:,} bytes")
        rows += part.to_pylist()
    return rows


def hugging_face(name: str, read: Collection[str]) -> list[Placed]:
    """Reads the rows of a folder that `save_to_disk` wrote, or of a name on the hub. `read` is as in `parsed`."""
    parts = opened_hugging_face(name)
    placed = list[Placed]()
    try:
        for part, rows in parts.items():
            wanted = [column for column in rows.column_names if column in read]
            kept = rows.select_columns(wanted or rows.column_names[:1])  # without any it would have no rows
            places = _placed(kept, rows.column_names, f"{part} " if part else "")
            placed += ((place, {**row, PART: part} if part else row) for place, row in places)
    except Exception as error:  # every back end of that package has errors of its own
        raise _unreachable(name, error) from error
    if not placed:
        raise _no_rows(name, parts)
    return placed


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
