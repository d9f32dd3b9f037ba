"""Runs trials in a worker of Ray's: one after another, so that torch is imported once."""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from nas.running.events import Body, Measured, Reached, Restarted, Waiting
from nas.running.ray_connection import SETTINGS, ray
from nas.running.shipping import Shipped
from nas.surroundings import environment_variables

with environment_variables(SETTINGS):
    from ray import tune


class TrialActor(tune.Trainable):  # type: ignore[misc]  # Ray ships no types
    """Runs one trial after another in a worker that stays warm."""

    def setup(self, config: dict[str, Any], shipped: Shipped, claim: Any = None) -> None:
        factory: Callable[..., Body] = shipped.opened()
        self._factory = factory if claim is None else partial(factory, should_stop=StopFlag(claim))
        self._body = self._factory(config["job"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._body = self._factory(new_config["job"])
        return True

    def step(self) -> dict[str, Any]:
        event = self._body.step()
        return {"event": event, "done": not isinstance(event, Measured | Waiting | Restarted | Reached)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Does nothing, since trials keep their own checkpoints in the study's folder."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Does nothing: see save_checkpoint."""


class StopFlag:
    """Asks the search's claim on the cluster, in a worker on any machine, whether to stop. It never waits for the
    answer.
    """

    ASK_SECONDS = 0.5

    def __init__(self, claim: Any) -> None:
        self._claim, self._answer, self._asked, self._stopped = claim, None, 0.0, False

    def __call__(self) -> bool:
        now = time.monotonic()
        if self._stopped or now - self._asked < self.ASK_SECONDS:
            return self._stopped
        self._asked = now
        if self._answer is not None:
            if not ray.wait([self._answer], timeout=0)[0]:
                return False
            with suppress(ray.exceptions.RayError):  # a claim whose node died is made again elsewhere
                self._stopped = bool(ray.get(self._answer))
        self._answer = self._claim.is_stopped.remote()
        return self._stopped
