"""Reads examples from tables: CSV, TSV, JSON lines, Parquet, or a data set of Hugging Face, with columns by name.

`load` reads all rows and checks each value; a fault raises a DataError that names row and column. `split` tells which
rows are for training, validation and test.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from nas import bounds
from nas.data import fetch, formats
from nas.data.catalogue import DATASETS
from nas.data.formats import HUGGING_FACE, Placed, Row
from nas.data.normalise import split_of
from nas.errors import DataError, nearest

Split = Literal["train", "val", "test"]

SPLIT = formats.PART
"""The column that names each row's split; without it, a tenth is for validation and a tenth for the test."""
SPLIT_NAMES: dict[str, Split] = {
    **{"train": "train", "training": "train", "test": "test"},
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
}
SHARES = 10
MOST_SHOWN = 5
"""The most wrong values that a message lists; the others are counted."""
MOST_CHARACTERS = 80
"""The most characters of a wrong value that a message shows."""


@dataclass(frozen=True)
class Column:
    """Describes a column that a task reads.

    text: not blank. texts: one such, or a list of them. label: a word or a whole number. count: a whole number from 0.
    """

    name: str
    kind: Literal["text", "texts", "label", "count"]
    required: bool = True


@dataclass(frozen=True)
class Table:
    """Holds `rows`, by the task's names of columns, and `places`, such as `line 12` for each row."""

    name: str
    source: str
    sha256: str
    rows: tuple[Row, ...]
    places: tuple[str, ...]


def load(corpus: str, columns: Sequence[Column], names: Mapping[str, str]) -> Table:
    """Reads the rows of a known data set, of the file at that path, or of `hf:NAME`. Raises DataError.

    `names` maps the task's name of a column to the file's own, where they differ.
    """
    _check_names(columns, names)
    dataset, wanted = DATASETS.get(corpus), [*columns, Column(SPLIT, "text", required=False)]
    names = {**(dataset.columns if dataset else {}), **names}
    own = {column.name: names.get(column.name, column.name) for column in wanted}
    if corpus.startswith(HUGGING_FACE):
        source, content = corpus, None
        placed = formats.hugging_face(corpus.removeprefix(HUGGING_FACE), own.values())
    else:
        if dataset and dataset.task == "language_modelling":
            raise DataError(
                f"the data set '{corpus}' is a text, not a table",
                code="corpus-format",
                where="task.corpus",
                help=nearest(corpus, (name for name, known in DATASETS.items() if known.task != dataset.task)),
            )
        path = Path(dataset.file) if dataset else fetch.path_of(corpus)
        content = fetch.content(dataset) if dataset else formats.content(path, DATASETS)
        source = dataset.urls[0] if dataset else path.name
        placed = list(islice(formats.parsed(content, path, own.values()), bounds.ROWS + 1))
    if not placed:
        raise DataError("the table has no rows", code="corpus-empty", where=corpus, help="give a table with examples")
    if len(placed) > bounds.ROWS:
        text = f"the table has more than {bounds.ROWS:,} rows"
        raise DataError(text, code="corpus-too-long", where=corpus, help="give a part of it")
    _check_columns(corpus, placed, wanted, own, names)
    rows = _checked(corpus, placed, wanted, own)
    if content is None:  # other columns may hold anything, so only these are hashed
        content = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode()
    return Table(corpus, source, hashlib.sha256(content).hexdigest(), tuple(rows), tuple(place for place, _ in placed))


def split(table: Table, key: str) -> dict[Split, list[int]]:
    """Returns the numbers of the rows of each split: by the column `split`, or else by a hash of their `key` column.

    Where no row is for validation, or none for the test, that hash takes a tenth of the training rows for it, since
    many data sets are published so. Equal keys stand in one split alone: rows of the test split are left out of the
    others, and rows of the validation split out of training (as published, four abstracts of SciTLDR stand in two).

    Raises DataError when a split is left without rows, or the column names an unknown split.
    """
    found: dict[Split, list[int]] = {"train": [], "val": [], "test": []}
    for number, row in enumerate(table.rows):
        named = row.get(SPLIT) or split_of(str(row[key]), SHARES)
        if named.lower() not in SPLIT_NAMES:
            raise DataError(
                f"unknown split '{named}'",
                code="bad-row",
                where=f"{table.name}  {table.places[number]}  {SPLIT}",
                help="use train, valid and test",
            )
        found[SPLIT_NAMES[named.lower()]].append(number)
    unfilled = {name for name, numbers in found.items() if not numbers}
    if found["train"] and unfilled:
        train, found["train"] = found["train"], []
        for number in train:
            drawn = SPLIT_NAMES[split_of(str(table.rows[number][key]), SHARES)]
            found[drawn if drawn in unfilled else "train"].append(number)
    held = set[str]()
    order: tuple[Split, ...] = ("test", "val", "train")
    for name in order:
        found[name] = [number for number in found[name] if str(table.rows[number][key]) not in held]
        held |= {str(table.rows[number][key]) for number in found[name]}
    if missing := [name for name, rows in found.items() if not rows]:
        counts = ", ".join(f"{len(rows)} for '{name}'" for name, rows in found.items())
        raise DataError(
            f"the table leaves no rows for {' and '.join(missing)}",
            code="corpus-too-short",
            where=table.name,
            detail=f"{len(table.rows)} rows: {counts}",
            help=f"add rows; or say in a column '{SPLIT}' which are for train, valid and test",
        )
    return found


def refuse(table: Table, problems: Mapping[int, str]) -> None:
    """Raises DataError when `problems` (row number → fault) holds any."""
    if problems:
        raise _bad_rows(table.name, [(table.places[number], text) for number, text in problems.items()])


def _check_names(columns: Sequence[Column], names: Mapping[str, str]) -> None:
    known = [*(column.name for column in columns), SPLIT]
    for name in names:
        if name not in known:
            raise DataError(
                f"the task reads no column '{name}'",
                code="unknown-column",
                where=f"task.columns.{name}",
                help=nearest(name, known),
            )


def _check_columns(
    corpus: str, placed: Sequence[Placed], wanted: Sequence[Column], own: Mapping[str, str], names: Mapping[str, str]
) -> None:
    """Raises DataError unless each column that is required, or was named, is in some row."""
    there = dict.fromkeys(name for _, row in placed for name in row)
    for column in wanted:
        if own[column.name] not in there and (column.required or column.name in names):
            raise DataError(
                f"no column '{own[column.name]}'",
                code="missing-column",
                where=corpus,
                detail="columns: " + ", ".join(map(str, there)),
                help=f"{nearest(own[column.name], map(str, there))}\n"
                f'task.columns = {{ {column.name} = "..." }}   names another',
            )


def _checked(corpus: str, placed: Sequence[Placed], wanted: Sequence[Column], own: Mapping[str, str]) -> list[Row]:
    rows, wrong = list[Row](), list[tuple[str, str]]()
    for place, row in placed:
        kept = {}
        for column in wanted:
            value = row.get(own[column.name])
            if not column.required and (value is None or value == ""):  # in CSV a missing cell is an empty one
                continue
            problem = "is missing" if value is None else _problem(column, value)
            if problem:
                wrong.append((place, f"{own[column.name]} {problem}"))
            else:
                kept[column.name] = _value(column, value)
        rows.append(kept)
    if any(SPLIT in row for row in rows):
        wrong += [
            (place, f"{own[SPLIT]} is missing")
            for (place, _), row in zip(placed, rows, strict=True)
            if SPLIT not in row
        ]
    if wrong:
        raise _bad_rows(corpus, wrong)
    return rows


def _problem(column: Column, value: Any) -> str:
    """Says what is wrong with a value, or "" when nothing is."""
    if column.kind == "count":
        if (isinstance(value, int) and value >= 0) or _digits(value):
            return ""
        return f"is not a whole number: {_shown(value)}"
    if column.kind == "label":
        if isinstance(value, (str, int)) and str(value).strip() and not _flaw(str(value)):
            return ""
        return f"is neither a word nor a whole number: {_shown(value)}"
    if column.kind == "texts" and isinstance(value, list):
        if not value:
            return "holds no text"
        sound = all(isinstance(text, str) and text.strip() and not _flaw(text) for text in value)
        return "" if sound else f"holds something that is not text, or an empty text: {_shown(value)}"
    if not isinstance(value, str):
        return f"is not text: {_shown(value)}"
    if not value.strip():
        return "is empty"
    return f"{flaw}: {_shown(value)}" if (flaw := _flaw(value)) else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ..."


def _value(column: Column, value: Any) -> Any:
    match column.kind:
        case "count":
            return int(value)
        case "label":
            return str(value).strip()
        case "texts":
            return value if isinstance(value, list) else [value]
    return value


def _flaw(text: str) -> str:
    """Says what a text may not hold, though JSON may: a zero byte, or one half of a surrogate pair; "" when nothing."""
    if "\0" in text:
        return "holds a zero byte"
    return "holds half a character" if any("\ud800" <= character <= "\udfff" for character in text) else ""


def _digits(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MOST_CHARACTERS and value.strip().isdecimal()


def _bad_rows(corpus: str, wrong: Sequence[tuple[str, str]]) -> DataError:
    """Makes the error of `wrong`: pairs of a place and its fault."""
    first, *others = (f"{place}: {text}" for place, text in wrong)
    count = len({place for place, _ in wrong})
    listed = "\n".join(others[: MOST_SHOWN - 1])
    more = len(others) - (MOST_SHOWN - 1)
    return DataError(
        f"a row cannot be used: {first}" if count == 1 else f"{count} rows cannot be used, the first: {first}",
        code="bad-row",
        where=corpus,
        detail=listed + (f"\nand {more:,} more" if more > 0 else ""),
        help="correct or remove these rows",
    )
