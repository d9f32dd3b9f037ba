"""Defines a training of your own: what its function is given, and what it yields.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from nas.architecture import Architecture
from nas.results import Rung


@dataclass(frozen=True)
class Job:
    """One trial to run or to continue."""

    number: int
    attempt: int
    """1 at first, and one more each time the trial continues after an interruption."""
    seed: int
    """A seed that follows from the study's seed and the trial's number."""
    parameters: Mapping[str, Any]
    """The values chosen from `[space.parameters]`, fixed ones included; empty in a space of architectures."""
    architecture: Architecture | None
    """The architecture to train, in a space of architectures."""
    learning_rate: float | None
    """The learning rate chosen from `train.learning_rate`, where that is a list."""
    steps: int
    """The length of the whole training, `train.steps`, in whatever unit the body counts."""
    rungs: tuple[int, ...]
    """The steps at which trials are compared; the last is `steps`."""
    folder: Path
    """The trial's own folder, which exists: for checkpoints, and for files to keep of a trial on the front. The folders
    of other trials are deleted with all that is in them when the search is over."""
    device: str
    cpus: float
    """The CPUs that the trial may use."""
    measured: Mapping[str, float]
    """The metrics that an earlier attempt measured before training. They stay as they are: measuring again changes
    nothing.
    """
    reached: tuple[Rung, ...]
    """The rungs that an earlier attempt has reported."""
    settings: Mapping[str, Any]
    """The study file as plain data, every default filled in."""
    should_stop: Callable[[], bool]
    """The body calls this often, between steps. True means: save a checkpoint and return. It waits while another trial
    measures.
    """
    measuring: Callable[[], AbstractContextManager[float]]
    """`with job.measuring():` gives the body the device alone: other trials pause at their next `should_stop`."""


@dataclass(frozen=True)
class Measured:
    """Holds what is known before training; all metrics that the study file calls `cheap`.

    `contended`, 1 or 0 among them, tells that other load disturbed the measurement. NAME_best is the fastest reading of
    a metric, by which limits are then judged. The other fields are for the built-in measuring alone: `measurement`
    tells how it was done (nas.measurement), and `more` that costly measurements follow, unless a limit ends the trial.
    """

    metrics: Mapping[str, float]
    measurement: Mapping[str, Any] = field(default_factory=dict)
    more: bool = False


@dataclass(frozen=True)
class Reached:
    """One of the job's rungs is trained and saved."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Finished:
    """The training is over, and these are the final metrics."""

    metrics: Mapping[str, float]


Said: TypeAlias = Measured | Reached | Finished
BodyFunction: TypeAlias = Callable[[Job], Iterator[Said]]
