"""Measures the overhead of a trial: our driver against stock Ray Tune with `OptunaSearch`.

Both run the same trivial trial (it imports torch, as every real trial must, and sums one tensor) over the same three
parameters and two objectives on the same CPUs. Runs of both alternate, each in a process of its own, and two that
follow each other make a pair (nas.bench.driver_launch). The times at which the trials of one run end give its seconds a
trial; the pairs give the intervals (nas.bench.driver_estimate).
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas import files
from nas.bench import result_folder
from nas.bench.driver_estimate import WARM, overheads, pace
from nas.errors import NasError, UsageError
from nas.measure import environment

LEAST = WARM + 10
FILE = "driver.json"
OTHER_CLUSTERS = ("RAY_ADDRESS", "RAY_NAMESPACE")
"""A run that found these in its environment would join another cluster."""


@dataclass(frozen=True)
class Settings:
    """Holds the settings of the comparison: the trials of each run, and the pairs of runs. `storage`: see launch."""

    trials: int = 60
    pairs: int = 5
    storage: str = "sqlite"

    def __post_init__(self) -> None:
        if self.trials < LEAST:
            text = f"--trials must be at least {LEAST}, got {self.trials}"
            raise UsageError(text, where="--trials", help=f"the first {WARM} trials of a run are not timed")


def claim(folder: Path) -> None:
    """Claims the folder before minutes of measuring.

    Raises Conflict where other programs' files have our names, and OutOfReach when the disk cannot be written.
    """
    result_folder.claim(folder, {FILE: ("environment", "settings", "rows")}, (FILE,))


def compare(settings: Settings, say: Callable[[str], object]) -> dict[str, Any]:
    """Returns {environment, settings, rows} and what `overheads` makes of the rows, of which each run gives one.

    The first of a pair is ours, then stock, in turn. Raises NasError when a run fails.
    """
    rows: list[dict[str, Any]] = []
    for pair in range(settings.pairs):
        for who in ("ours", "stock") if pair % 2 == 0 else ("stock", "ours"):
            row = {"pair": pair, "who": who, **_run(who, settings.trials)}
            rows.append(row)
            each, start = row["seconds_per_trial"], row["startup_seconds"]
            say(f"pair {pair + 1}, {who}: {each:.3f} s a trial, {start:.1f} s to the first")
    return {"environment": environment(), "settings": asdict(settings), **overheads(rows), "rows": rows}


def write(result: Mapping[str, Any], folder: Path) -> None:
    files.write_json(folder / FILE, result)


def _run(who: str, trials: int) -> dict[str, float]:
    """Runs one search in a process of its own, and returns its times."""
    variables = {name: value for name, value in os.environ.items() if name not in OTHER_CLUSTERS}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "nas.bench.driver_launch", who, str(trials)],
        capture_output=True,
        text=True,
        check=False,
        env=variables,
    )
    ended = time.monotonic()
    if done.returncode:
        raise NasError(f"the {who} run of {trials} trials failed", detail="\n".join(done.stderr.splitlines()[-5:]))
    line = json.loads(done.stdout.splitlines()[-1])
    if len(line["ends"]) != trials:
        raise NasError(f"the {who} run trained {len(line['ends'])} of {trials} trials")
    ends = [end - started for end in line["ends"]]
    return {**pace(ends, line["cpu_seconds"]), "ending_seconds": ended - started - ends[-1]}
