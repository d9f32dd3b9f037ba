"""Defines what passes between the coordinator and an executor: one job in, a few events out. Plain values."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from nas.reasons import Reason
from nas.results import Rung


@dataclass(frozen=True)
class Job:
    """One trial to run, or to go on with."""

    number: int
    attempt: int
    """1 at first, one more each time the row is claimed again; only the current attempt may tell."""
    seed: int
    architecture: Mapping[str, Any]
    learning_rate: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The metrics that an earlier attempt measured before training; it is not measured again."""
    slot: int = 0
    """The place of this trial among those running side by side, from 0."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The parameters that are tried in place of an architecture, in a space of parameters."""
    rungs: tuple[Rung, ...] = ()
    """Those that earlier attempts have told."""


@dataclass(frozen=True)
class Measured:
    """Latency, memory and size are known; nothing is trained yet."""

    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Waiting:
    """Nothing is known yet: it waits for one of WAITS, since that moment (Unix seconds)."""

    what: str
    since: float


@dataclass(frozen=True)
class Restarted:
    """Training starts anew, since its checkpoint cannot be continued."""

    why: str


@dataclass(frozen=True)
class Reached:
    """A rung is trained, evaluated and saved."""

    rung: Rung


@dataclass(frozen=True)
class Completed:
    """The last rung is reached, and these are all the metrics."""

    rung: Rung
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Failed:
    """The trial cannot go on. `stale` is given by the coordinator alone, after three workers died of it."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True)
class Interrupted:
    """Told to stop; the state is saved, and the row may be claimed again."""


@dataclass(frozen=True)
class Blocked:
    """The machine refuses, through no fault of the trial: its disk is full, say. The whole search has to stop."""

    message: str
    where: str = ""
    detail: str = ""
    help: str = ""


WAITS = {
    "ray": "Ray starts",
    "workers": "workers start: each loads PyTorch",
    "device": "another measurement has the device",
    "quiet": "the machine is busy: other programs disturb the measurement",
    "data": "the data is read, and its baselines are worked out",
    "test": "the model is tested on the whole test split",
    "front": "the front is measured once more, now that nothing trains",
}
"""The things that a search may wait for, in words."""

Event = Measured | Waiting | Restarted | Reached | Completed | Failed | Interrupted | Blocked


def waiting(what: str, trial: int | None = None, since: float | None = None) -> dict[str, Any]:
    """Makes the event that tells the observer of a wait: `for` what (WAITS), since when (Unix seconds), and for which
    trial."""
    told = {"type": "waiting", "for": what, "since": time.time() if since is None else since}
    return told if trial is None else told | {"trial": trial}


Notice = Waiting | Restarted
"""What is only told: the trial goes on."""


def notice(event: Notice, trial: int) -> dict[str, Any]:
    """The event as observers hear of it."""
    if isinstance(event, Restarted):
        return {"type": "restarted", "trial": trial, "why": event.why}
    return waiting(event.what, trial, event.since)


class Body(Protocol):
    """A trial while it runs. `step()` is called until it returns another event than Measured, Waiting, Restarted or
    Reached, or until the coordinator says that the trial ends."""

    def step(self) -> Event: ...


class BodyFactory(Protocol):
    """Makes the body of a job, in the process that will run it. Must be importable by name, so that workers find it."""

    def __call__(self, job: Job) -> Body: ...
