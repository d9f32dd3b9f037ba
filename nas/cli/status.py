"""`nas status` shows the progress of a study."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import STORAGE, Json, Storage, StudyName
from nas.formatting import duration, moment, number
from nas.printable import printable

if TYPE_CHECKING:
    from rich.console import RenderableType


REFRESH_SECONDS = 2.0
COUNTED = {"failed": "failed", "measured": "measurements", "tested": "tested", "running": "under way"}
"""These counts of a confirmation are told where they are not 0, in these words."""

Watch = Annotated[bool, typer.Option("--watch", help="Show it again every 2 seconds until the search ends or Ctrl-C.")]


def status(study: StudyName, watch: Watch = False, storage: Storage = None, json: Json = False) -> None:
    """Show the progress of a study.

    Shows which drivers search it, its trials by state and reason, how much of the budget is trained, how many trials
    were stopped at a rung, its front, and the best value of each objective.

    Exit codes: 0, whether the search runs or not; 2 when there is no such study.
    """
    from rich.live import Live

    from nas.cli.output import emit
    from nas.cli.tables import answers
    from nas.study import open_study
    from nas.study.standing import standing

    stored = open_study(study, storage, STORAGE)
    now = standing(stored)
    if json:
        while watch and now["running"]:
            emit("status", **now)
            time.sleep(REFRESH_SECONDS)
            now = standing(stored)
        emit("result", **now)
    elif not watch:
        answers().print(_render(now))
    else:
        with Live(_render(now), console=answers(), auto_refresh=False) as live:
            while now["running"]:
                time.sleep(REFRESH_SECONDS)
                now = standing(stored)
                live.update(_render(now), refresh=True)


def _drivers(drivers: list[dict[str, Any]]) -> "RenderableType":
    """Shows who searches, where, when they were last heard of, and what they run."""
    from nas.cli.tables import table
    from nas.study.study_drivers import SHORT

    shown = table("driver", "host", "process", "heartbeat", "trials", numbers=("process",))
    for driver in drivers:
        state = {"GO": "", "FINISH": ", told to finish", "NOW": ", told to stop"}[driver["stop"]]
        heard = f"{duration(driver['heartbeat_age_seconds'])} ago" if driver["lives"] else "dead"
        trials = "confirms" if driver["confirms"] else ", ".join(map(str, driver["trials"])) or "none"
        shown.add_row(driver["driver"][:SHORT], printable(driver["host"]), str(driver["pid"]), heard + state, trials)
    return shown


def _confirmation(now: dict[str, int]) -> str:
    """Says how far a confirmation is."""
    parts = [f"{now['members']} trials, {now['trained']} trainings with new seeds"]
    parts += [f"{now[key]} {what}" for key, what in COUNTED.items() if now[key]]
    return ", ".join(parts)


def _stopped(count: int) -> str:
    return f", {count} of them stopped at a rung" if count else ""


def _render(now: dict[str, Any]) -> "RenderableType":
    from rich.console import Group

    from nas.cli.tables import pairs, table

    facts = {
        "study": f"{now['study']}, {'running' if now['running'] else 'not running'}",
        "trained": f"{now['trained']} of {now['budget']} trials{_stopped(now['stopped'])}",
        "elapsed": f"{duration(now['elapsed_seconds'])}, created {moment(now['created'])}",
        "front": ", ".join(map(str, now["front"])) or "no trial yet",
    }
    if now["confirmation"]:
        facts["confirmed"] = _confirmation(now["confirmation"])
    if now["storage"]:
        facts["storage"] = now["storage"]
    if now["folder"]:
        facts["folder"] = printable(now["folder"])
    if now["missing_files"]:
        facts["missing"] = f"weights and attention maps: {now['missing_files']}"
    parts: list[RenderableType] = [pairs(facts)]
    if now["drivers"]:
        parts += ["", _drivers(now["drivers"])]
    if now["states"]:
        states = table("state", "trials", "reason", numbers=("trials",))
        for state, reasons in now["states"].items():
            for reason, count in reasons.items():
                states.add_row(state, str(count), reason)
        parts += ["", states]
    if now["best"]:
        best = table("best", "value", "unit", "trial", numbers=("value", "trial"))
        for row in now["best"]:
            best.add_row(row["metric"], number(row["value"]), row["unit"], str(row["trial"]))
        parts += ["", best]
    return Group(*parts)
