"""Shows a confirmation while it runs: a live panel on a terminal, lines elsewhere, JSON lines with `--json`."""

import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.table import Table
from rich.text import Text

from nas.cli.live_panel import LivePanel
from nas.cli.output import emit, people
from nas.cli.waits import Waits
from nas.formatting import duration, number
from nas.printable import on_one_line, printable
from nas.reasons import cause_of

STOPPING = {
    "FINISH": "Finishing the running jobs; nothing new starts. Another Ctrl-C: save and stop now.",
    "NOW": "Saving and stopping. Ctrl-C now kills everything at once (nothing is lost).",
}
SHOWN = ("val_loss", "test_loss", "macro_f1", "test_macro_f1", "prefill_ms", "decode_ms_per_token", "generation_ms")
"""The first of these metrics that a job has stand in its line, two at most."""
LONGEST_CAUSE = 200
ENDED = {"training": "trained", "test": "tested", "block": "measured"}
"""The words for jobs that have ended."""


def introduced(event: Mapping[str, Any]) -> str:
    """Says what is confirmed, and how."""
    near = f", and near it {_listed(event['near'])}" if event["near"] else ""
    blocks = f"; {event['blocks']} measurements each, a minute apart" if event["blocks"] else ""
    seeds = f"{event['seeds']} new seeds each, {event['most']} at most, {event['steps']:,} steps{blocks}"
    return f"confirming {event['name']}: the front {_listed(event['front'])}{near}; {seeds}"


def told(event: Mapping[str, Any]) -> str:
    """Says in a line what has ended; empty for other events."""
    if event["type"] != "confirmation" or event["what"] != "ended":
        return ""
    metrics = event["metrics"]
    shown = "  ".join(f"{name} {number(metrics[name])}" for name in [n for n in SHOWN if n in metrics][:2])
    if event["state"] == "FAIL":
        shown = "  ".join(filter(None, (event["reason"], on_one_line(cause_of(event["detail"]))[:LONGEST_CAUSE])))
    return f"trial {event['trial']}, {_what(event)}: {shown or 'done'}"


class ConfirmProgress:
    """Shows every event of a confirmation (nas.running.confirmation_jobs); a context manager."""

    def __init__(self, *, json: bool, live: bool) -> None:
        self.console = people()
        self.json, self.live = json, live and not json and self.console.is_terminal
        self.started = time.monotonic()
        self.running: dict[tuple[int, str, int | None], str] = {}
        self.ended: Counter[str] = Counter()
        self.note, self.what = "starting", ""
        self.trained, self.first = 0, 0
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
            case "confirming":
                self.note, self.what = "", introduced(event)
                self.trained = event["trained"]
                self.first = event["seeds"] * len([*event["front"], *event["near"]])
                self._say(self.what)
            case "confirmation":
                self._job(event)
            case "restarted":
                self._say(f"trial {event['trial']}: training starts again: {event['why']}")
            case "node":
                self._say(f"node {event['host']}: {event['state']} {event['why']}")
            case "stopping":
                self.note = STOPPING[event["level"]]
                self._say(self.note)

    def _job(self, event: Mapping[str, Any]) -> None:
        job = (event["trial"], event["does"], event["seed"])
        match event["what"]:
            case "begun":
                self.running[job] = f"trial {event['trial']}, {_what(event)}"
            case "rung":
                self.running[job] = f"trial {event['trial']}, {_what(event)}: step {event['step']:,}"
            case "released":
                self.running.pop(job, None)
            case "ended":
                self.running.pop(job, None)
                self.ended[ENDED[event["does"]] if event["state"] != "FAIL" else "failed"] += 1
                self.trained += event["does"] == "training"
                self._say(told(event))

    def _say(self, line: str) -> None:
        if not self.live and not self.json:
            self.console.print(line, soft_wrap=True)

    def _ended(self) -> str:
        return "  ".join(f"{name} {count}" for name, count in sorted(self.ended.items()) if name != "trained")

    def _panel(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_row("confirming", printable(self.what.partition(": ")[2] or self.note))
        more = f"of {self.first} or more" if self.trained < self.first else "and perhaps more"
        table.add_row("trained", f"{self.trained} {more}   {self._ended()}")
        table.add_row("time", duration(time.monotonic() - self.started))
        for i, line in enumerate(self.running.values()):
            table.add_row("" if i else "running", line)
        for line in (*self.waits.lines(), self.note):
            if line:
                table.add_row("", Text(printable(line), style="yellow"))
        return table


def _what(event: Mapping[str, Any]) -> str:
    if event["does"] == "block":
        return "measured again"
    return f"{'tested with ' if event['does'] == 'test' else ''}seed {event['seed']}"


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
