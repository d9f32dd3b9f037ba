"""Reads a tabulated benchmark from a file or a package, as a command line asks for it."""

import csv
import io
import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet

from nas import bounds, files
from nas.bench import nasbench201
from nas.bench.tables import Column, Columns, Table, build
from nas.errors import UsageError, nearest

MOST_OBJECTIVES = 4
NAMED = {f"nasbench201:{dataset}": dataset for dataset in nasbench201.DATASETS}


def open_table(
    file: Path | None,
    name: str | None,
    params: str | None,
    objectives: str | None,
    cost: str | None,
    sample: int | None = None,
) -> Table:
    """Opens the benchmark of a command line: a file, or a named table, which knows its parameters and objectives.

    `sample` keeps so many of its configurations, drawn at random, always the same ones.

    Raises UsageError for an option that is missing, unknown or cannot be used.
    """
    if (file is None) == (name is None):
        message = "expected a table's file or --table, and got both" if name else "no table is given"
        raise UsageError(message, where="TABLE", help=f"a .csv or .parquet file, or --table {next(iter(NAMED))}")
    columns = read(file) if file else named(str(name))
    if name:
        params, objectives = params or ",".join(nasbench201.PARAMS), objectives or nasbench201.OBJECTIVES
    for option, given in (("--params", params), ("--objectives", objectives)):
        if not given:
            help = "--params A,B --objectives C:min,D:max, of the columns " + ", ".join(columns)
            raise UsageError(f"{option} is missing", where=str(file), help=help)
    names = parse_names(str(params))
    kept = columns if sample is None else sampled(columns, names, sample)
    return build(str(file or name), kept, names, parse_objectives(str(objectives)), cost)


def sampled(columns: Columns, params: Sequence[str], count: int) -> Columns:
    """Returns the rows of so many configurations, drawn at random; all of them where the table has no more."""
    if not set(params) <= columns.keys():
        return columns  # `build` says which one is missing
    keys = list(zip(*(columns[name] for name in params), strict=True))
    every = sorted(set(keys), key=str)
    wanted = set(random.Random(0).sample(every, min(count, len(every))))
    rows = [row for row, key in enumerate(keys) if key in wanted]
    return {name: [cells[row] for row in rows] for name, cells in columns.items()}


def named(name: str) -> Columns:
    """Returns the cells of a table from a package. Raises UsageError for an unknown one, or without the package."""
    if name not in NAMED:
        raise UsageError(f"unknown table '{name}'", where="--table", help=nearest(name, NAMED))
    return nasbench201.columns(NAMED[name])


def read(path: Path) -> Columns:
    """Returns the cells of a CSV or Parquet file. Raises UsageError when it cannot be read or has no rows."""
    readers = {".csv": _csv, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        help = "a table is a .csv or a .parquet file"
        raise UsageError(f"unknown kind of table '{path.suffix or path.name}'", where=str(path), help=help)
    try:
        columns = readers[path.suffix.lower()](path)
    except (OSError, ValueError, csv.Error, pyarrow.ArrowException) as error:
        missing = isinstance(error, FileNotFoundError)
        message = "there is no such table" if missing else "the table cannot be read"
        raise UsageError(message, where=str(path), detail="" if missing else str(error)) from error
    if not any(columns.values()):
        help = "give it one row a configuration, below a line of headings"
        raise UsageError("the table is empty", where=str(path), help=help)
    return columns


def _csv(path: Path) -> Columns:
    text = io.StringIO(files.read_bytes(path, bounds.TEXT_BYTES).decode("utf-8-sig"), newline="")
    rows = [row for row in csv.reader(text, skipinitialspace=True) if row]
    if not rows:
        return {}
    heads, *rows = rows
    if twice := sorted({head for head in heads if heads.count(head) > 1}):
        raise UsageError(f"the table has two columns '{twice[0]}'", where=str(path), help="rename one of them")
    for number, row in enumerate(rows, 1):
        if len(row) != len(heads):
            message = f"row {number} has {len(row)} cells below {len(heads)} headings"
            raise UsageError(message, where=str(path), help="put cells that hold a comma in double quotes")
    return {head: [row[i] for row in rows] for i, head in enumerate(heads)}


def _parquet(path: Path) -> Columns:
    columns: Columns = pyarrow.parquet.read_table(io.BytesIO(files.read_bytes(path, bounds.TEXT_BYTES))).to_pydict()
    return columns


def parse_names(text: str) -> tuple[str, ...]:
    """Parses "a, b, c" into names. Raises UsageError for one that is empty or there twice."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if not name or names.count(name) > 1:
            problem = f"the parameter '{name}' is given twice" if name else f"a parameter has no name in '{text}'"
            raise UsageError(problem, where="--params", help="for example --params depth,width")
    return names


def parse_objectives(text: str) -> tuple[Column, ...]:
    """Parses "error:min, latency:min:cheap" into objectives. Raises UsageError for an invalid or repeated entry."""
    found = tuple(_objective(part.strip()) for part in text.split(","))
    names = [objective.metric for objective in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"the objective '{twice[0]}' is given twice", where="--objectives")
    if len(found) > MOST_OBJECTIVES:
        raise UsageError(f"{len(found)} objectives are more than {MOST_OBJECTIVES}", where="--objectives")
    return found


def _objective(text: str) -> Column:
    head, colon, last = text.rpartition(":")
    name, _, goal = head.rpartition(":") if (cheap := colon != "" and last == "cheap") else (head, colon, last)
    if not name or goal not in ("min", "max"):
        message = f"expected COLUMN:min or COLUMN:max, got '{text}'"
        raise UsageError(message, where="--objectives", help="for example error:min,latency:min:cheap")
    return Column(name, "min" if goal == "min" else "max", cheap=cheap)
