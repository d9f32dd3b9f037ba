"""Shows a search while it runs: a live panel on a terminal, lines elsewhere, JSON lines with `--json`."""

import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.table import Table
from rich.text import Text

from nas import pareto
from nas.architecture import Architecture
from nas.cli.confirm_progress import introduced, told
from nas.cli.live_panel import LivePanel
from nas.cli.output import emit, people
from nas.cli.waits import Waits
from nas.formatting import duration, number, one_line
from nas.printable import on_one_line, printable
from nas.reasons import cause_of
from nas.settings.study_file import StudyFile

STOPPING = {
    "FINISH": "Finishing the running trials; nothing new starts. Another Ctrl-C: save and stop now.",
    "NOW": "Saving and stopping. Ctrl-C now kills everything at once (nothing is lost).",
}

NODES = {
    "joined": "joins the search",
    "leaving": "is about to end",
    "left": "has left the cluster",
    "refused": "gets no trials",
}
LONGEST_CAUSE = 200
"""The most characters of a trial's error that are shown while the search runs."""
OVER_FOR_NOW = "is over its limit, but other programs disturbed the measurement; it is trained, and measured again"


class Progress:
    """Shows every event of the coordinator (see `nas.running.coordinator.Observer`); a context manager."""

    def __init__(self, file: StudyFile, *, json: bool, live: bool) -> None:
        self.console = people()
        self.json, self.live = json, live and not json and self.console.is_terminal
        self.objectives = file.objective_list()
        self.started = time.monotonic()
        self.budget, self.trained, self.trained_before = 0, 0, 0
        self.outcomes: Counter[str] = Counter()
        self.front = pareto.GrowingFront([o.goal for o in self.objectives])
        self._told_front: str | None = None
        self.running: dict[int, str] = {}
        self.note = "starting"
        self.waits = Waits()
        self._live = LivePanel(self._panel, self.console)

    def __enter__(self) -> Self:
        if self.live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self._live.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        if self.json:
            emit(event["type"], **{key: value for key, value in event.items() if key != "type"})
        if line := self.waits.take(event):
            self._say(line)
        match event["type"]:
            case "study":
                self.budget, self.trained_before = event["budget"], event["counts"]["trained"]
                self.trained = self.trained_before
                for values in event["values"]:
                    self.front.add(values)
                self.note = "" if self.trained < self.budget else "all trials are trained"
                self._say(
                    f"study {event['name']}: {self.trained} of {self.budget} trials trained, in {event['folder']}"
                )
            case "budget":
                change = "lowered" if event["budget"] < event["before"] else "raised"
                line = f"the budget is {change} from {event['before']} to {event['budget']} trained trials"
                if not self.json:  # above the panel too: it changes what is stored
                    self.console.print(line, soft_wrap=True)
            case "started":
                tried = event.get("architecture")
                shown = str(Architecture.model_validate(tried)) if tried else one_line(event["parameters"])
                self.running[event["trial"]] = shown
                self.note = ""
            case "finished":
                self._finished(event)
            case "released":
                self.running.pop(event["trial"], None)
            case "restarted":
                self._say(f"trial {event['trial']}: training starts again: {event['why']}")
            case "node":
                self._say(f"node {event['host']} {NODES[event['state']]}{event['why'] and ': '}{event['why']}")
            case "stopping":
                self.note = STOPPING[event["level"]]
                self._say(self.note)
            case "measured":
                for metric in event["uncertain"]:
                    self._say(f"trial {event['trial']}: {metric} {OVER_FOR_NOW}")
            case "confirming":
                self.note = introduced(event)
                self._say(self.note)
            case "confirmation":
                if line := told(event):
                    self.note = f"confirming: {line}"
                    self._say(line)
            case "remeasured":
                self.note = f"measuring the front once more, idle: trial {event['trial']}{_rest(event)}"
                self._say(self.note)

    def _finished(self, event: Mapping[str, Any]) -> None:
        trial, metrics = event["trial"], event["metrics"]
        architecture = self.running.pop(trial, "")
        outcome = event["reason"] or event["state"]
        self.outcomes[outcome] += 1
        self.trained = event["counts"]["trained"]
        if event["state"] == "COMPLETE" and all(v <= 0 for v in event["violations"].values()):
            self.front.add([metrics[o.metric] for o in self.objectives])
            self._told_front = None
        shown = "  ".join(f"{o.metric} {number(metrics[o.metric])}" for o in self.objectives if o.metric in metrics)
        if event["state"] == "FAIL":
            shown = "  ".join(filter(None, (shown, on_one_line(cause_of(event["detail"]))[:LONGEST_CAUSE])))
        self._say(f"[{self.trained}/{self.budget}] trial {trial} {outcome}  {shown}  ({architecture})")

    def _say(self, line: str) -> None:
        if not self.live and not self.json:
            self.console.print(line, soft_wrap=True)

    def _panel(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_row("trained", f"{self.trained} of {self.budget}   {self._outcomes()}")
        table.add_row("front", self._front())
        table.add_row("time", f"{duration(time.monotonic() - self.started)}   {self._remaining()}")
        for trial, architecture in sorted(self.running.items()):
            table.add_row("running" if trial == min(self.running) else "", f"{trial}: {architecture}")
        for line in (*self.waits.lines(), self.note):
            if line:
                table.add_row("", Text(printable(line), style="yellow"))
        return table

    def _outcomes(self) -> str:
        return "  ".join(f"{name} {count}" for name, count in sorted(self.outcomes.items()))

    def _front(self) -> str:
        """Returns the front in one line, computed again only when a trial has joined it."""
        if not len(self.front):
            return "empty so far"
        if self._told_front is None:
            volume = self.front.hypervolume(self.front.reference_point())
            best = [f"{o.metric} {number(v)}" for o, v in zip(self.objectives, self.front.best(), strict=True)]
            self._told_front = f"{len(self.front)} members, hypervolume {number(volume)}; best {', '.join(best)}"
        return self._told_front

    def _remaining(self) -> str:
        done = self.trained - self.trained_before
        if not done or self.trained >= self.budget:
            return ""
        seconds = (time.monotonic() - self.started) / done * (self.budget - self.trained)
        return f"about {duration(seconds)} left"


def _rest(event: Mapping[str, Any]) -> str:
    """Tells how many measurements are left, and whether other load disturbed this one."""
    disturbed = ", still disturbed by other programs" if event["metrics"].get("contended") else ""
    return disturbed + (f", {event['left']} to go" if event["left"] else "")
