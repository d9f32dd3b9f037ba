"""Defines what passes between the coordinator and an executor: one job in, a few events out, all plain values."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from nas.body import Measured as Measured  # what a body of the user's own yields first is this event
from nas.reasons import Reason
from nas.results import Rung


@dataclass(frozen=True)
class Job:
    """One trial to run or to continue."""

    number: int
    attempt: int
    """1 at first, and one more each time the row is claimed again. Only the current attempt may report."""
    seed: int
    architecture: Mapping[str, Any]
    learning_rate: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The metrics that an earlier attempt measured before training; they are not measured again."""
    slot: int = 0
    """The trial's place among those that run side by side, from 0."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The parameters of the trial in a space of parameters, which has no architecture."""
    rungs: tuple[Rung, ...] = ()
    """The rungs that earlier attempts have reported."""
    before: str = ""
    """The machine that ran the attempt before this one, where that is known."""


@dataclass(frozen=True)
class ConfirmationJob(Job):
    """One job that confirms the trial of that number: a training with a new seed, its test, or a measurement.

    `attempt` and `rungs` are those of the job, not of the trial.
    """

    does: str = "training"
    """training, test or block."""
    again: str = ""
    """The name of the job among those of the trial; see nas.study.stored_confirmations."""
    job_id: int = 0
    steps: int = 0


@dataclass(frozen=True)
class Waiting:
    """The trial waits for one of WAITS since that moment (Unix seconds); it has no result yet."""

    what: str
    since: float


@dataclass(frozen=True)
class Restarted:
    """The training starts from its first step, since its checkpoint cannot be continued, or is not here."""

    why: str


@dataclass(frozen=True)
class Reached:
    """The trial has trained to a rung, and is evaluated and saved, in a checkpoint of that name."""

    rung: Rung
    checkpoint: str = ""


@dataclass(frozen=True)
class Completed:
    """The trial has reached its last rung, and these are all its metrics."""

    rung: Rung
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Failed:
    """The trial cannot continue. The coordinator alone gives `stale`, after three workers died while running it."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True)
class Interrupted:
    """The trial was told to stop; its state is saved, and the row may be claimed again."""


@dataclass(frozen=True)
class Blocked:
    """The machine fails, for example by a full disk, and the trial is not the cause. The whole search has to stop."""

    message: str
    where: str = ""
    detail: str = ""
    help: str = ""


WAITS = {
    "ray": "Ray starts",
    "workers": "workers start: each loads PyTorch",
    "nodes": "nodes of the cluster describe their hardware, or no node can take a trial",
    "device": "another measurement has the device",
    "quiet": "the machine is busy: other programs disturb the measurement",
    "data": "the data is read, and its baselines are worked out",
    "test": "the model is tested on the whole test split",
    "front": "the front is measured once more, now that nothing trains",
    "drivers": "other drivers run what is left of the budget",
    "blocks": "each member is measured in blocks, which are a minute apart",
    "confirmers": "other drivers run what is left of the confirmation",
    "closing": "another driver measures the front once more and cleans up",
}
"""The things that a search may wait for, in words."""

Observer = Callable[[dict[str, Any]], None]
"""An observer receives each event as plain data with a `type`; the progress display and `--json` are observers."""
Event = Measured | Waiting | Restarted | Reached | Completed | Failed | Interrupted | Blocked


def waiting(what: str, trial: int | None = None, since: float | None = None) -> dict[str, Any]:
    """Makes the event that tells the observer of a wait: `for` what (WAITS), since when (Unix seconds), and in which
    trial.
    """
    told = {"type": "waiting", "for": what, "since": time.time() if since is None else since}
    return told if trial is None else told | {"trial": trial}


def data_progress(observer: Observer) -> Callable[[str, int, int | None], None]:
    """Tells the observer, once a second, that the search waits for its data."""
    since = told = time.time()

    def progress(stage: str, done: int, size: int | None) -> None:
        nonlocal told
        if time.time() - told >= 1:
            told = time.time()
            observer(waiting("data", since=since))

    return progress


Notice = Waiting | Restarted
"""Events that only inform: the trial continues."""


def notice(event: Notice, trial: int) -> dict[str, Any]:
    """Returns the event as observers receive it."""
    if isinstance(event, Restarted):
        return {"type": "restarted", "trial": trial, "why": event.why}
    return waiting(event.what, trial, event.since)


class Body(Protocol):
    """A trial while it runs. `step()` is called until it returns another event than Measured, Waiting, Restarted or
    Reached, or until the coordinator says that the trial ends."""

    def step(self) -> Event: ...


class BodyFactory(Protocol):
    """Makes the body of a job, in the process that runs it. It must be importable by name, so that workers find it."""

    def __call__(self, job: Job) -> Body: ...
