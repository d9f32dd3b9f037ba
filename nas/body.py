"""A training of one's own: what its function is given, and what it yields.

    def train(job: Job) -> Iterator[Said]:
        model = build(job.parameters)
        yield Measured({"latency_ms": time(model)})          # before training, where there is anything to measure
        for step in job.rungs:
            fit(model, until=step)
            yield Reached(step, {"error": test(model)})      # at each rung, the last one included if you like
        yield Finished({"error": test(model)})               # once, at the end

Metrics are numbers by name; the study file declares them (`[metrics.NAME]`). Everything here is plain data: it loads no
torch, ray or optuna.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from nas.architecture import Architecture
from nas.results import Rung


@dataclass(frozen=True)
class Job:
    """One trial to run, or to go on with."""

    number: int
    attempt: int
    """1 at first, one more each time that the trial goes on after an interruption."""
    seed: int
    """Follows from the study's seed and the trial's number."""
    parameters: Mapping[str, Any]
    """The values chosen from `[space.parameters]`, fixed ones included; empty in a space of architectures."""
    architecture: Architecture | None
    """The architecture, in a space of architectures."""
    learning_rate: float | None
    """The one chosen from `train.learning_rate`, where that is a list."""
    steps: int
    """`train.steps`: the whole training, in whatever unit the body counts."""
    rungs: tuple[int, ...]
    """The steps at which trials are compared; the last is `steps`."""
    folder: Path
    """The trial's own folder, which is there: checkpoints go here, and what is to be kept of a trial on the front."""
    device: str
    cpus: float
    """The CPUs that the trial may use."""
    measured: Mapping[str, float]
    """The metrics that an earlier attempt measured before training. It stays as it was: measuring again changes
    nothing."""
    reached: tuple[Rung, ...]
    """The rungs that an earlier attempt has told."""
    settings: Mapping[str, Any]
    """The study file as plain data, every default filled in."""
    should_stop: Callable[[], bool]
    """To be asked often, between steps. True: save a checkpoint and return. It waits while another trial measures."""
    measuring: Callable[[], AbstractContextManager[float]]
    """`with job.measuring():` has the device alone: other trials pause at their next `should_stop`."""


@dataclass(frozen=True)
class Measured:
    """Holds what is known before training; all metrics that the study file calls `cheap`."""

    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Reached:
    """One of the job's rungs is trained and saved."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Finished:
    """Training is over, and these are the final metrics."""

    metrics: Mapping[str, float]


Said: TypeAlias = Measured | Reached | Finished
BodyFunction: TypeAlias = Callable[[Job], Iterator[Said]]
