"""Reports what a command waits for: at once when the wait is new, and again from time to time while it lasts."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from nas.running.events import WAITS

AGAIN_SECONDS = 30.0
"""The seconds after which a wait is reported again."""


class Waits:
    """The waits of a command, from its `waiting` events. `clock` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lasting: dict[int | None, tuple[str, float]] = {}
        self._told: dict[str, float] = {}

    def take(self, event: Mapping[str, Any]) -> str:
        """Takes in any event. Returns a line to print where a wait is to be reported; empty otherwise."""
        trial = event.get("trial")
        if event["type"] != "waiting":
            # Any other event of a trial ends its wait; and once a trial is measured, all have begun.
            self._lasting.pop(trial, None)
            if event["type"] in ("measured", "remeasured", "confirmation"):
                self._lasting.pop(None, None)
            return ""
        what, since, now = event["for"], event["since"], self._clock()
        self._lasting[trial] = (what, since)
        if now - self._told.get(what, float("-inf")) < AGAIN_SECONDS:
            return ""
        self._told[what] = now
        return self._line(trial, what, since)

    def lines(self) -> list[str]:
        """Returns all present waits, for a panel."""
        return [self._line(trial, what, since) for trial, (what, since) in self._lasting.items()]

    def _line(self, trial: int | None, what: str, since: float) -> str:
        seconds = max(0, int(self._clock() - since))
        lasting = f" ({seconds} s)" if seconds >= 1 else ""
        named = "" if trial is None else f"trial {trial}: "
        return f"waiting{lasting}: {named}{WAITS.get(what, what)}"
