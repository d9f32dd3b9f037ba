"""Presents a source of jobs to Ray Tune's hooks: jobs by Tune's trial ids, each on a node, errors for the caller."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import NasError, OutOfReach
from nas.running.events import Interrupted, Job, waiting
from nas.running.placement import SharedNodes
from nas.running.stop_control import Level, StopControl

if TYPE_CHECKING:
    from nas.running.job_source import JobSource

log = logging.getLogger("nas")

FINISHED, CONTINUE, STOP = "FINISHED", "CONTINUE", "STOP"
"""Ray Tune's words: there is no further trial; a trial goes on; a trial ends."""
NODELESS_SECONDS = 600.0
"""The longest time without any node for a trial, after which the search ends."""
RESUME = "nas resume   continues; running trials were put back, and keep their last checkpoint"


@dataclass(frozen=True)
class OneMachine:
    """Is all that this machine has: so many places for trials, and no other node."""

    slots: int

    def free(self, used: Mapping[str, int]) -> str | None:
        """Returns the name of the only node, which is empty, while a place is free."""
        return "" if sum(used.values()) < self.slots else None


@dataclass
class Flight:
    """Keeps what is known of a job while Ray Tune runs it."""

    job: Job
    node: str
    placed: bool = False
    cause: str = ""
    """Says what the worker died of, while it is not known whether its whole node did."""
    lost: float = 0.0
    """The monotonic time at which it died."""


class Bridge:
    """Hands out jobs, takes in results. Every hook of Ray Tune's comes through here, one at a time."""

    def __init__(
        self, source: "JobSource", control: StopControl, one: OneMachine, cluster: SharedNodes | None = None
    ) -> None:
        self.source, self.control, self.cluster = source, control, cluster
        self.nodes = cluster or one
        self.flights: dict[str, Flight] = {}
        self.error: NasError | None = None
        self.answered = False
        """True once any worker has reported anything."""
        self._turn, self._closed, self._nodeless = threading.RLock(), False, 0.0

    def close(self) -> None:
        """Waits for a hook under way. No later hook of Ray Tune reaches the source of jobs."""
        with self._turn:
            self._closed = True

    def suggest(self, trial_id: str) -> Any:
        """Returns a configuration, FINISHED, or None, which means: ask again later."""
        with self._turn:
            return FINISHED if self._closed else self._suggest(trial_id)

    def _suggest(self, trial_id: str) -> Any:
        self._look_after_nodes()
        flying = len(self.source.running)
        if self.control.level() is not Level.GO or self.error:
            return None if flying else FINISHED
        node = self.nodes.free(Counter(flight.node for flight in self.flights.values()))
        if node is None:
            self._wait_for_nodes(flying)
            return None
        self._nodeless = 0.0
        job = self._guard(self.source.next_job)
        if job is None:
            return FINISHED if (self.error or self.source.end) and not flying else None
        self.flights[trial_id] = Flight(job, node)
        return {"job": job, "node": node}

    def result(self, trial_id: str, result: Mapping[str, Any] | None) -> str:
        """Returns Ray Tune's word for what the trial does next."""
        with self._turn:
            return STOP if self._closed else self._result(trial_id, result)

    def _result(self, trial_id: str, result: Mapping[str, Any] | None) -> str:
        flight, event = self.flights.get(trial_id), (result or {}).get("event")
        if flight is None or event is None:
            return CONTINUE  # Ray reports a stopped trial as complete once more
        self.answered = True
        if self.cluster and not flight.placed:
            flight.placed, hardware = True, self.cluster.hardware(flight.node)
            self._guard(lambda: self.source.placed(flight.job, hardware))
        if self.cluster and result and result.get("leaving"):
            self.cluster.departs(flight.node)
        goes_on = self._guard(lambda: self.source.report(flight.job, event))
        if goes_on and self.control.level() is not Level.NOW:
            return CONTINUE
        if goes_on:
            self._guard(lambda: self.source.report(flight.job, Interrupted()))
        del self.flights[trial_id]
        return STOP

    def crashed(self, trial_id: str, cause: str) -> None:
        """Takes in a lost worker. On a cluster the verdict waits until it is known whether its node died."""
        with self._turn:
            flight = None if self._closed else self.flights.get(trial_id)
            if flight is None:
                return
            if self.cluster:
                flight.cause, flight.lost = cause, time.monotonic()
                return
            del self.flights[trial_id]
            self._guard(lambda: self.source.crashed(flight.job, f"the worker died: {cause}"))

    def never_started(self) -> list[str]:
        """Returns the Tune ids of jobs whose node left before a worker was lost, for which Ray would wait for ever."""
        if not self.cluster:
            return []
        return [id for id, flight in self.flights.items() if not flight.lost and self.cluster.has_left(flight.node)]

    def put_back(self, trial_id: str) -> None:
        """Has a job run elsewhere: its node is gone, and the architecture is not to blame."""
        with self._turn:
            flight = None if self._closed else self.flights.pop(trial_id)
            if flight:
                self._guard(partial(self.source.report, flight.job, Interrupted()))

    def fault(self) -> str:
        """Says what is wrong with the cluster; empty when nothing is, or there is none."""
        return self.cluster.fault() if self.cluster else ""

    def watched(self) -> Any:
        """Watches the cluster's nodes meanwhile."""
        return self.cluster.watched() if self.cluster else nullcontext()

    def _look_after_nodes(self) -> None:
        """Judges lost workers, tells what happened to nodes, and passes a stop on to workers elsewhere."""
        if not self.cluster:
            return
        while self.cluster.changes:
            event = self.cluster.changes.pop(0)
            log.info("node %s: %s %s", event["host"], event["state"], event["why"])
            self.source.observer(event)
        for trial_id, flight in [(id, flight) for id, flight in self.flights.items() if flight.lost]:
            gone = self.cluster.is_gone(flight.node, flight.lost)
            if gone:
                self.put_back(trial_id)
            elif gone is False:
                del self.flights[trial_id]
                self._guard(partial(self.source.crashed, flight.job, f"the worker died: {flight.cause}"))
        if self.control.level() is Level.NOW:
            self.cluster.stop_workers()

    def _wait_for_nodes(self, flying: int) -> None:
        """Notices that no node has a place for any trial. Ends the search when that lasts."""
        if flying or not self.cluster:
            return
        now = time.monotonic()
        if not self._nodeless:
            self._nodeless = now
            self.source.observer(waiting("nodes"))
        if now - self._nodeless > NODELESS_SECONDS:
            self.error = OutOfReach("no node of the cluster takes trials any more", code="ray", help=RESUME)

    def _guard(self, call: Callable[[], Any]) -> Any:
        """Keeps the first error, and has all trials save and stop: Ray would swallow the error, or lose what runs."""
        try:
            return call()
        except NasError as error:
            self.error = self.error or error
            self.control.raise_to(Level.NOW)
            return None


def cause_of(trial: Any) -> str:
    """Returns the last line of Ray's text for the error; the pickled form is never opened."""
    path = getattr(trial, "error_file", None)
    if not path or not Path(path).exists():
        return "no cause given"
    lines = Path(path).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no cause given"
