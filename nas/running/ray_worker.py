"""Runs trials in a worker of Ray's: one after another, so that torch is imported once.

A worker does without Ray Tune, which would import pandas and much else for nothing (nas.running.ray_trainable).
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from nas.running.departures import Departure
from nas.running.events import Body, Measured, Reached, Restarted, Waiting
from nas.running.ray_connection import ray
from nas.running.shipping import Shipped


class TrialActor:
    """Runs one trial after another in a worker that stays warm. Ray Tune calls its methods as those of a Trainable.

    On a cluster (`claim`, the name of the search's claim there) a trial saves and ends where the search, or the machine
    below the worker, is to end.
    """

    shipped: Shipped
    claim: str = ""

    def __init__(self, config: dict[str, Any], storage: str) -> None:
        """`config` holds the first job; `storage` is the folder in which this trial works."""
        factory: Callable[..., Body] = self.shipped.opened()
        self._departure = Departure()
        if self.claim:
            self._departure.listen()
            factory = partial(factory, should_stop=StopFlag(ray.get_actor(self.claim), self._departure))
        self._factory = factory
        self._begin(config, storage)

    def reset(self, new_config: dict[str, Any], storage: str) -> bool:
        """Begins another trial."""
        self._begin(new_config, storage)
        return True

    def train(self) -> dict[str, Any]:
        """Takes one step of the trial."""
        event = self._body.step()
        done = not isinstance(event, Measured | Waiting | Restarted | Reached)
        if done:
            self._departure.end()
        return {"event": event, "done": done, "leaving": self._departure.asked}

    def stop(self) -> None:
        """Does nothing, since trials keep their own checkpoints, and Ray ends the process."""

    def get_auto_filled_metrics(self, debug_metrics_only: bool = False) -> dict[str, Any]:
        """Returns nothing: Ray Tune would like to know the host and the time."""
        return {}

    def _begin(self, config: dict[str, Any], storage: str) -> None:
        Path(storage).mkdir(parents=True, exist_ok=True)
        os.chdir(storage)
        self._departure.begin()
        self._body = self._factory(config["job"])


def actor_of(shipped: Shipped, claim: str) -> type[TrialActor]:
    """Returns the worker of one search.

    What it needs is part of the class, which is sent once. In Ray's store (`ray.put`) it could end the driver: once
    this machine's node has ended, Ray looks for what was put there, and exits without a word as the store is gone.
    """
    told = {"shipped": shipped, "claim": claim, "__module__": TrialActor.__module__, "__doc__": TrialActor.__doc__}
    return type(TrialActor.__name__, (TrialActor,), told)


class StopFlag:
    """Asks the search's claim on the cluster, in a worker on any machine, whether to stop there. It never waits for
    the answer. A departure stops the trial at once.
    """

    ASK_SECONDS = 0.5

    def __init__(self, claim: Any, departure: Departure) -> None:
        self._claim, self._answer, self._asked, self._stopped = claim, None, 0.0, False
        self._departure, self._node = departure, ray.get_runtime_context().get_node_id()

    def __call__(self) -> bool:
        now = time.monotonic()
        if self._departure.asked:
            return True
        if self._stopped or now - self._asked < self.ASK_SECONDS:
            return self._stopped
        self._asked = now
        if self._answer is not None:
            if not ray.wait([self._answer], timeout=0)[0]:
                return False
            with suppress(ray.exceptions.RayError):  # a claim whose node died is made again elsewhere
                self._stopped = bool(ray.get(self._answer))
        self._answer = self._claim.is_stopped.remote(self._node)
        return self._stopped
