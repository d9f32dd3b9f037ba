"""Checks the values of tables, and splits their rows for training, validation and test.

Whatever is wrong raises a DataError that names row and column.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from nas.data import formats
from nas.data.formats import Row
from nas.data.normalise import split_of
from nas.errors import DataError

Split = Literal["train", "val", "test"]

HALF = re.compile("[\ud800-\udfff]")
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
    rows: Sequence[Row]
    places: Sequence[str]


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
    held = set[bytes]()
    order: tuple[Split, ...] = ("test", "val", "train")
    for name in order:
        keys = (_digest(str(table.rows[number][key])) for number in found[name])
        kept = [(number, digest) for number, digest in zip(found[name], keys, strict=True) if digest not in held]
        found[name] = [number for number, _ in kept]
        if name != "train":  # no other follows
            held |= {digest for _, digest in kept}
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


def _digest(text: str) -> bytes:
    """Stands for a text that may be long."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def refuse(table: Table, problems: Mapping[int, str]) -> None:
    """Raises DataError when `problems` (row number → fault) holds any."""
    if problems:
        told = [(table.places[number], text) for number, text in islice(problems.items(), MOST_SHOWN)]
        raise refused_rows(table.name, told, len(problems), len(problems) - len(told))


def problem_of(column: Column, value: Any) -> str:
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


def value_of(column: Column, value: Any) -> Any:
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
    return "holds half a character" if HALF.search(text) else ""


def _digits(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MOST_CHARACTERS and value.strip().isdecimal()


def refused_rows(corpus: str, told: Sequence[tuple[str, str]], rows: int, more: int) -> DataError:
    """Makes the error of rows that cannot be used.

    `told`: the first faults, each with its place. `rows`: how many rows are wrong. `more`: the faults that are not
    told.
    """
    first, *others = (f"{place}: {text}" for place, text in told)
    return DataError(
        f"a row cannot be used: {first}" if rows == 1 else f"{rows} rows cannot be used, the first: {first}",
        code="bad-row",
        where=corpus,
        detail="\n".join(others) + (f"\nand {more:,} more" if more > 0 else ""),
        help="correct or remove these rows",
    )
