"""Measures the overhead of a trial: our driver against stock Ray Tune with `OptunaSearch`.

Both run the same trivial trial (it imports torch, as every real trial must, and sums one tensor) over the same three
parameters and two objectives on the same CPUs. Runs of both alternate, each in a process of its own, and two that
follow each other make a pair (nas.bench.driver_launch). The times at which the trials of one run end give its seconds a
trial; the pairs give the intervals (nas.bench.driver_estimate).

Our rows are in a SQLite file, or in a PostgreSQL database, where each run has a study of its own that is deleted after
it. Stock Ray Tune keeps its trials in memory, and files of its own.
"""

import json
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sql

from nas import files
from nas.bench import result_folder
from nas.bench.driver_estimate import WARM, overheads, pace
from nas.errors import NasError, UsageError
from nas.measure import environment
from nas.study.database_place import LOCAL, PASSWORD, SECRET_VARIABLES, VARIABLE, DatabasePlace
from nas.study.deleting import delete
from nas.study.stored_study import open_study
from nas.study.transactions import Database

LEAST = WARM + 10
FILE = "driver.json"
OTHER_CLUSTERS = ("RAY_ADDRESS", "RAY_NAMESPACE")
"""A run that found these in its environment would join another cluster."""
ROUND_TRIPS = 20


@dataclass(frozen=True)
class Settings:
    """Holds the settings of the comparison: the trials of each run, and the pairs of runs."""

    trials: int = 60
    pairs: int = 5

    def __post_init__(self) -> None:
        if self.trials < LEAST:
            text = f"--trials must be at least {LEAST}, got {self.trials}"
            raise UsageError(text, where="--trials", help=f"the first {WARM} trials of a run are not timed")


def claim(folder: Path) -> None:
    """Claims the folder before minutes of measuring.

    Raises Conflict where other programs' files have our names, and OutOfReach when the disk cannot be written.
    """
    result_folder.claim(folder, {FILE: ("environment", "settings", "rows")}, (FILE,))


def compare(settings: Settings, say: Callable[[str], object], place: DatabasePlace | None = None) -> dict[str, Any]:
    """Returns {environment, database, settings, rows} and what `overheads` makes of the rows, of which each run gives
    one.

    Our studies are in `place`, else in SQLite files. The first of a pair is ours, then stock, in turn. Raises NasError
    when a run fails, and OutOfReach where the database does not answer.
    """
    database, rows = _described(place), list[dict[str, Any]]()
    for pair in range(settings.pairs):
        for who in ("ours", "stock") if pair % 2 == 0 else ("stock", "ours"):
            row = {"pair": pair, "who": who, **_run(who, settings.trials, place)}
            rows.append(row)
            each, start = row["seconds_per_trial"], row["startup_seconds"]
            say(f"pair {pair + 1}, {who}: {each:.3f} s a trial, {start:.1f} s to the first")
    told = {"environment": environment(), "database": database, "settings": asdict(settings)}
    return told | overheads(rows) | {"rows": rows}


def write(result: Mapping[str, Any], folder: Path) -> None:
    files.write_json(folder / FILE, result)


def _described(place: DatabasePlace | None) -> dict[str, Any]:
    """Returns what counts for the time of a transaction: the database's kind, its version, and how it syncs."""
    if place is None:
        return {"kind": "sqlite", "version": sqlite3.sqlite_version}
    with closing(Database(place)) as database:
        database.check()
        return database.read(_server)


def _server(connection: sql.Connection) -> dict[str, Any]:
    names = ("server_version", "fsync", "synchronous_commit")
    version, fsync, commit = (connection.execute(sql.text(f"SHOW {name}")).scalar_one() for name in names)
    trips = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        connection.execute(sql.select(1))
        trips.append(1e3 * (time.perf_counter() - began))
    told = {"kind": "postgresql", "version": version, "fsync": fsync == "on", "synchronous_commit": commit != "off"}
    return told | {"round_trip_ms": statistics.median(trips)}


def _run(who: str, trials: int, place: DatabasePlace | None) -> dict[str, float]:
    """Runs one search in a process of its own, and returns its times."""
    study = f"bench_driver-{uuid4().hex[:12]}"
    started = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "nas.bench.driver_launch", who, str(trials), study],
            capture_output=True,
            text=True,
            check=False,
            env=_variables(place if who == "ours" else None),
        )
        ended = time.monotonic()
    finally:
        if place is not None and who == "ours":
            _forget(study, place)
    if done.returncode:
        raise NasError(f"the {who} run of {trials} trials failed", detail="\n".join(done.stderr.splitlines()[-5:]))
    line = json.loads(done.stdout.splitlines()[-1])
    if len(line["ends"]) != trials:
        raise NasError(f"the {who} run trained {len(line['ends'])} of {trials} trials")
    ends = [end - started for end in line["ends"]]
    return {**pace(ends, line["cpu_seconds"]), "ending_seconds": ended - started - ends[-1]}


def _variables(place: DatabasePlace | None) -> dict[str, str]:
    """Returns the environment of a run: it alone holds the address, and a password where one was given."""
    found = {name: value for name, value in os.environ.items() if name not in OTHER_CLUSTERS}
    if place is None:
        return {name: value for name, value in found.items() if name not in SECRET_VARIABLES} | {VARIABLE: LOCAL}
    if not place.chosen:  # the run finds it as this process did
        return found
    password = {PASSWORD: place.secrets[0]} if place.secrets else {}
    return found | {VARIABLE: str(place)} | password


def _forget(study: str, place: DatabasePlace) -> None:
    """Deletes the study of a run, which has none if it failed early."""
    try:
        delete(open_study(study, place))
    except UsageError as error:
        if error.code != "no-such-study":
            raise
