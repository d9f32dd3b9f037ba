"""Runs one search of the search benchmark in its own process: a study and a time go in, a time line comes out.

A finished trial is `{seconds, architecture, learning_rate, metrics}`: fully trained, and known to the run's driver so
many seconds after its process was started. The clock starts before Python does, so start-up counts, for ours and for
stock alike. Results after the time is up do not count.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from nas import files
from nas.errors import NasError
from nas.settings.study_file import StudyFile

OURS, STOCK = "ours", "stock"
PRUNED, PRIMO = ("tpe_pruned", "gp_pruned"), "primo"
"""Optuna's samplers with OptunaHub's pruner of several metrics, and PriMO of NePS."""
UNBOUNDED = 10**6
"""The number of trials of a run that only time ends."""
GRACE_SECONDS = 300.0
"""A run that continues for so long after its time counts as hanging."""
POLITE_SECONDS = 10.0
"""The wait between asking a run's process to end and killing it."""
DETAIL_LINES = 8


Body = Callable[[StudyFile, Path, float, float, int | None], list[dict[str, Any]]]
"""Runs a search: its file and folder, when it started and ends in Unix seconds, and its most trials."""


def run(
    who: str,
    file: StudyFile,
    seconds: float,
    trials: int | None = None,
    *,
    peers: Mapping[str, str | None] | None = None,
) -> list[dict[str, Any]]:
    """Returns the time line of one run. Raises NasError with the end of its output when it fails, or never ends.

    `trials` ends the run earlier, after so many; with None only time ends it. Its study lives in a temporary folder.
    `peers` tells where peers are: `registry`, a clone of OptunaHub's; `neps`, a Python that has NePS.
    Every process that it has started ends with it, also when this call is interrupted.
    """
    with tempfile.TemporaryDirectory(prefix="nas-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        job = {"who": who, "settings": file.resolved(), "started": time.time(), "seconds": seconds, "trials": trials}
        job |= {"peers": dict(peers or {})}
        files.write_json(folder / "job.json", job)
        with (folder / "errors.txt").open("wb") as errors, sigterm_raises():
            process = subprocess.Popen(
                [sys.executable, "-m", "nas.bench.launches", name],
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
            try:
                code = process.wait(seconds + GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                raise NasError(f"the {who} run did not end when its time was up", detail=_tail(folder)) from None
            finally:
                _end(process)
        if code:
            raise NasError(f"the {who} run failed (exit code {code})", detail=_tail(folder))
        told: list[dict[str, Any]] = json.loads((folder / "trials.json").read_text(encoding="utf-8"))
        return sorted((trial for trial in told if trial["seconds"] <= seconds), key=lambda trial: trial["seconds"])


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Makes SIGTERM unwind the stack as Ctrl-C does, so that nothing is left running; the exit code is 143."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    former = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def ours(file: StudyFile, folder: Path, started: float, until: float, trials: int | None) -> list[dict[str, Any]]:
    """Returns the finished trials of our own driver."""
    from nas.running import driver
    from nas.running.launch import Launch

    told: dict[int, tuple[float, dict[str, float]]] = {}

    def observe(event: dict[str, Any]) -> None:
        if event["type"] == "finished" and event["state"] == "COMPLETE":
            told[event["trial"]] = time.time() - started, event["metrics"]

    left = max(1.0, until - time.time())
    launch = Launch("ray", trials=trials or UNBOUNDED, seconds=left, max_fail_rate=1.0)
    rows = driver.run(file, folder / "study", launch, observe).study.trials()
    return [
        {
            "seconds": seconds,
            "architecture": dict(rows[number].architecture),
            "learning_rate": rows[number].learning_rate,
            "metrics": dict(metrics),
        }
        for number, (seconds, metrics) in told.items()
    ]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks the process to end, then kills what is left of its session, since Ray's processes are in many groups."""
    try:
        if process.poll() is None:
            process.terminate()
            process.wait(POLITE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    finally:
        for left in psutil.pids():
            with suppress(ProcessLookupError, PermissionError):  # already gone, or another user's
                if os.getsid(left) == process.pid:
                    os.kill(left, signal.SIGKILL)
        process.wait()


def _tail(folder: Path) -> str:
    lines = (folder / "errors.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "\n".join(lines[-DETAIL_LINES:])


def _main(folder: Path) -> None:
    """Runs one launch in a process of its own."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    file, started = StudyFile.model_validate(job["settings"]), job["started"]
    told = _body(job["who"], job["peers"])(file, folder, started, started + job["seconds"], job["trials"])
    files.write_json(folder / "trials.json", told)


def _body(who: str, peers: Mapping[str, str | None]) -> Body:
    """Returns what runs the search of that name. Only the peer that runs is imported."""
    if who == STOCK:
        from nas.bench import stock

        return stock.run
    if who in PRUNED:
        from nas.bench import pruned

        return partial(pruned.run, who, registry=peers["registry"])
    if who == PRIMO:
        from nas.bench import primo

        return partial(primo.run, python=str(peers["neps"]))
    return ours


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
