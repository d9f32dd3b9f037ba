"""Defines what each launch of a search may choose."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nas.study.run_folders import FolderPlace


@dataclass(frozen=True)
class Launch:
    """Holds the options that each launch may choose. None means: as the study says, or all that the machine has."""

    executor: Literal["ray", "serial"] = "ray"
    trials: int | None = None
    seconds: float | None = None
    cpus: float | None = None
    gpus: float | None = None
    ray_address: str | None = None
    """A Ray cluster to join: HOST:PORT, or "auto" for the one that runs on this machine. None starts a Ray here."""
    max_fail_rate: float = 0.5
    retry_failed: bool = False
    source: str = "the study file"
    """The place that the settings come from, for errors."""
    command: str = ""
    described: Mapping[str, Any] | None = None
    """The hardware on which trials are measured, where it is a cluster's; see nas.measure.environment."""
    hosted: bool = False
    """True where the search runs within another program, and not as a command; see StopControl."""
    folder: FolderPlace | None = None
    """The place for the files of trials; None for the study's own folder."""
