"""Finds the table that a study names, and reads its rows in a stream, each of them checked."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from nas import bounds, files
from nas.data import fetch, formats
from nas.data.catalogue import DATASETS, Dataset
from nas.data.formats import HUGGING_FACE, Placed
from nas.data.rows import MOST_SHOWN, SPLIT, Column, Table, problem_of, refused_rows, value_of
from nas.errors import DataError, OutOfReach, nearest
from nas.folders import absolute

VERSION = 1
"""Changes when equal tables give other rows."""


@dataclass(frozen=True)
class TableSource:
    """Describes a table. `own`: the task's name of each column that is `wanted` → the table's own name.

    `placed()` yields the rows as they are found. `stamp` changes when the table does; it is empty where nothing tells
    that. `known`: the SHA-256 of the content, where it is known beforehand.
    """

    name: str
    origin: str
    wanted: tuple[Column, ...]
    named: Mapping[str, str]
    own: Mapping[str, str]
    placed: Callable[[], Iterator[Placed]]
    content: Callable[[], Iterable[bytes]] | None
    """Yields the unpacked bytes, which are hashed; without it, the checked rows are."""
    stamp: tuple[Any, ...] = ()
    known: str = ""

    @cached_property
    def sha256(self) -> str:
        """Returns the hash of the content: remembered beside the stamp, or else computed in a pass over it."""
        if self.known:
            return self.known
        place = self._place()
        if place and (found := _remembered(place)):
            return found
        digest = hashlib.sha256()
        if self.content:
            for part in self.content():
                digest.update(part)
        else:
            for _, row in self.rows():
                digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
        if place:
            with suppress(OutOfReach):  # a cache that cannot be written costs the next process a pass
                files.write_json(place, {"sha256": digest.hexdigest()})
        return digest.hexdigest()

    @property
    def key(self) -> dict[str, Any]:
        """Returns all that decides the rows."""
        columns = [asdict(column) for column in self.wanted]
        return {"version": VERSION, "sha256": self.sha256, "columns": columns, "own": dict(self.own), "as": self.form}

    @property
    def form(self) -> str:
        """Returns the ending of the table's name, which tells how it is read."""
        return HUGGING_FACE if self.name.startswith(HUGGING_FACE) else formats.ending_of(Path(self.origin))

    def rows(self) -> Iterator[Placed]:
        """Yields each row's place, and its values by the task's names. Raises DataError, also behind the last row."""
        there, faults, count = dict[str, None](), _Faults(self), 0
        for place, row in self.placed():
            count += 1
            if count > bounds.ROWS:
                text = f"the table has more than {bounds.ROWS:,} rows"
                raise DataError(text, code="corpus-too-long", where=self.name, help="give a part of it")
            there.update(dict.fromkeys(row))
            yield place, faults.checked(place, row)
        if not count:
            text = "the table has no rows"
            raise DataError(text, code="corpus-empty", where=self.name, help="give a table with examples")
        self._check_columns(there)
        faults.refuse()

    def _check_columns(self, there: Mapping[str, None]) -> None:
        """Raises DataError unless each column that is required, or was named, is in some row."""
        for column in self.wanted:
            if self.own[column.name] not in there and (column.required or column.name in self.named):
                raise DataError(
                    f"no column '{self.own[column.name]}'",
                    code="missing-column",
                    where=self.name,
                    detail="columns: " + ", ".join(map(str, there)),
                    help=f"{nearest(self.own[column.name], map(str, there))}\n"
                    f'task.columns = {{ {column.name} = "..." }}   names another',
                )

    def _place(self) -> Path | None:
        if not self.stamp:
            return None
        key = [*self.stamp, *([] if self.content else [[asdict(c) for c in self.wanted], dict(self.own)])]
        return (
            fetch.cache() / "texts" / f"{hashlib.sha256(json.dumps(['table', VERSION, key]).encode()).hexdigest()}.json"
        )


def find(corpus: str, columns: Sequence[Column], names: Mapping[str, str]) -> TableSource:
    """Finds a known data set, the file at that path, or `hf:NAME`. Raises DataError.

    `names` maps the task's name of a column to the table's own, where they differ.
    """
    _check_names(columns, names)
    dataset, wanted = DATASETS.get(corpus), (*columns, Column(SPLIT, "text", required=False))
    names = {**(dataset.columns if dataset else {}), **names}
    own = {column.name: names.get(column.name, column.name) for column in wanted}
    read, made = tuple(own.values()), partial(TableSource, corpus, wanted=wanted, named=names, own=own)
    if corpus.startswith(HUGGING_FACE):
        name = corpus.removeprefix(HUGGING_FACE)
        parts = formats.opened_hugging_face(name)
        prints = [getattr(rows, "_fingerprint", "") for rows in parts.values()]
        stamp = (HUGGING_FACE, *prints) if all(prints) else ()
        placed: Callable[[], Iterator[Placed]] = partial(formats.rows_of, name, parts, read)
        return made(corpus, placed=placed, content=None, stamp=stamp)
    if dataset:
        path, origin = _known(corpus, dataset), dataset.urls[0]
        placed = lambda: formats.parsed([fetch.content(dataset)], path, read)  # noqa: E731
        return made(origin, placed=placed, content=lambda: [fetch.content(dataset)], known=dataset.sha256)
    path = fetch.path_of(corpus)
    content = partial(formats.parts_of, path, DATASETS)
    return made(path.name, placed=lambda: formats.parsed(content(), path, read), content=content, stamp=_stamp(path))


def load(corpus: str, columns: Sequence[Column], names: Mapping[str, str]) -> Table:
    """Reads all rows into memory. Raises DataError, as `find` and the rows' reading do."""
    source = find(corpus, columns, names)
    placed = list(source.rows())
    rows, places = tuple(row for _, row in placed), tuple(place for place, _ in placed)
    return Table(source.name, source.origin, source.sha256, rows, places)


def _known(corpus: str, dataset: Dataset) -> Path:
    """Returns the name of a known data set's file, which is downloaded where it is missing."""
    if dataset.task == "language_modelling":
        raise DataError(
            f"the data set '{corpus}' is a text, not a table",
            code="corpus-format",
            where="task.corpus",
            help=nearest(corpus, (name for name, known in DATASETS.items() if known.task != dataset.task)),
        )
    if not fetch.present(dataset):
        fetch.fetch(dataset)
    return Path(dataset.file)


def _stamp(path: Path) -> tuple[Any, ...]:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return ()  # reading it tells why
    return (str(absolute(path)), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _remembered(place: Path) -> str:
    try:
        found = files.read_json(place)["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return found if isinstance(found, str) and len(found) == 64 else ""


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


@dataclass
class _Faults:
    """Checks rows, and counts those that cannot be used; the first faults are kept as they are told."""

    source: TableSource
    told: list[tuple[str, str]] = field(default_factory=list)
    lacking: list[tuple[str, str]] = field(default_factory=list)
    faults: int = 0
    wrong_rows: int = 0
    lacking_rows: int = 0
    lacking_alone: int = 0
    """Rows that lack the split, and those among them that lack nothing else."""
    splits: bool = False

    def checked(self, place: str, row: Mapping[str, Any]) -> dict[str, Any]:
        kept, before = dict[str, Any](), self.faults
        for column in self.source.wanted:
            name = self.source.own[column.name]
            value = row.get(name)
            if not column.required and (value is None or value == ""):  # in CSV a missing cell is an empty one
                continue
            problem = "is missing" if value is None else problem_of(column, value)
            if problem:
                self.faults += 1
                self.told += [(place, f"{name} {problem}")][: MOST_SHOWN - len(self.told)]
            else:
                kept[column.name] = value_of(column, value)
        wrong = self.faults > before
        self.wrong_rows += wrong
        if SPLIT in kept:
            self.splits = True
        else:
            self.lacking_rows += 1
            self.lacking_alone += not wrong
            self.lacking += [(place, f"{self.source.own[SPLIT]} is missing")][: MOST_SHOWN - len(self.lacking)]
        return kept

    def refuse(self) -> None:
        lacking = self.lacking if self.splits else []
        told = [*self.told, *lacking][:MOST_SHOWN]
        if told:
            rows = self.wrong_rows + (self.lacking_alone if lacking else 0)
            more = self.faults + (self.lacking_rows if lacking else 0) - len(told)
            raise refused_rows(self.source.name, told, rows, more)
