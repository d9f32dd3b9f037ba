"""Checks the options of a launch from Python, and watches its observer."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from nas import bounds
from nas.errors import UsageError
from nas.running.launch import Launch
from nas.study.run_folders import FolderPlace, folder_place
from nas.toml_table import duration

Observer = Callable[[dict[str, Any]], None]
Executor = Literal["ray", "serial"]


def checked(
    trials: int | None,
    time: str | float | None,
    cpus: float | None,
    gpus: float | None,
    executor: str,
    max_fail_rate: float,
    *,
    ray_address: str | None = None,
    retry_failed: bool = False,
    source: str,
    command: str,
    hosted: bool = False,
    folder: str | Path | FolderPlace | None = None,
) -> Launch:
    """Returns the options as a Launch. Raises UsageError whose `where` is the option's name."""
    if trials is not None and not 0 < trials <= bounds.TRIALS:
        raise UsageError(f"trials must be above 0 and at most {bounds.TRIALS:,}, got {trials}", where="trials")
    for option, value in (("cpus", cpus), ("gpus", gpus)):
        if value is not None and not 0 < value <= bounds.PROCESSORS:
            text = f"{option} must be above 0 and at most {bounds.PROCESSORS:,}, got {value:g}"
            raise UsageError(text, where=option, help="leave it out for all that this machine has")
    if executor not in ("ray", "serial"):
        raise UsageError(f"unknown executor '{executor}'", where="executor", help="one of ray, serial")
    if ray_address is not None and executor == "serial":
        text = "a serial search runs in this process, and joins no Ray cluster"
        raise UsageError(text, where="ray_address", help="leave one of them out")
    if not 0 <= max_fail_rate <= 1:
        raise UsageError(f"max_fail_rate must be from 0 to 1, got {max_fail_rate:g}", where="max_fail_rate")
    return Launch(
        executor="serial" if executor == "serial" else "ray",
        trials=trials,
        seconds=_seconds(time),
        cpus=cpus,
        gpus=gpus,
        ray_address=ray_address,
        max_fail_rate=max_fail_rate,
        retry_failed=retry_failed,
        source=source,
        command=command,
        hosted=hosted,
        folder=folder_place(folder),
    )


def _seconds(time: str | float | None) -> float | None:
    try:
        seconds = None if time is None else float(duration(time))
    except ValueError as error:
        raise UsageError(f"{error}, got '{time}'", where="time") from None
    if seconds is not None and not 0 < seconds < float("inf"):
        raise UsageError(f"a time must be above 0 and finite, got {seconds:g}", where="time")
    return seconds


class Watched:
    """Calls the observer. An observer that raises ends the search as `Study.stop(now=True)` does, and its error is
    kept.
    """

    def __init__(self, observer: Observer | None) -> None:
        self.observer = observer
        self.error: Exception | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        if self.observer is None or self.error is not None:
            return
        try:
            self.observer(event)
        except Exception as error:  # noqa: BLE001  running trials are saved before any error is raised
            logging.getLogger("nas").warning("the observer raised %r: the search stops", error)
            self.error = error
