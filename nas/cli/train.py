"""`nas train` trains the architecture of one trial by itself, tests it and keeps its weights."""

import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import (
    MOST_SEED,
    STORAGE,
    Storage,
    StudyName,
    TrainingOverrides,
    TrialNumber,
    Verbose,
    naming_options,
    out_folder,
)
from nas.formatting import duration, number

if TYPE_CHECKING:
    from rich.console import Console


def train(
    study: StudyName,
    trial: TrialNumber,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Training steps; default: as in the search.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=MOST_SEED, help="Random seed; default: the trial's own.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            parser=out_folder,
            help="The folder to write; default: runs/STUDY/trained/TRIAL-sSEED-STEPS.",
        ),
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda or cuda:N; default: the study's.")] = None,
    overrides: TrainingOverrides = None,
    storage: Storage = None,
    verbose: Verbose = 0,
) -> None:
    """Train the architecture of a trial.

    Tests the model, keeps its weights, and prints their folder. With the study's own settings and the trial's seed it
    repeats the trial. -s changes a key of [train], as in -s train.learning_rate=0.01, or task.split. Ctrl-C saves; the
    same command continues from there.

    Exit codes: 0; 1 when training diverges; 2 for an unknown trial or key; 4 when the data have changed or the folder
    holds something else; 130 and 143 interrupted, state saved.
    """
    from nas.api.study import open_study
    from nas.cli.output import logged, people, tell

    console = people()
    shown, stored = _Shown(console), open_study(study, storage, STORAGE)
    with logged(verbose), _exit_codes(), naming_options(), shown.bar:
        model = stored.train(
            trial, steps=steps, seed=seed, overrides=overrides or [], out=out, device=device, observer=shown
        )
    _print(model.details, console)
    tell(str(model.folder))


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Ends the command with 128 + the number of a signal, once the training is saved."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise typer.Exit(128 + number)

    heard = (n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN)
    former = {number: signal.signal(number, leave) for number in heard}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class _Shown:
    """Shows the events of a training: a bar on a terminal, and a line for each rung."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from nas.cli.waits import Waits

        columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
        self.console = console
        self.bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.task = self.bar.add_task("", total=None)
        self.waits, self.told = Waits(), time.monotonic()

    def __call__(self, event: dict[str, Any]) -> None:
        from nas.cli.waits import AGAIN_SECONDS

        step, steps = event.get("step", 0), event.get("steps", 0)
        if line := self.waits.take(event):
            self.console.print(line)
        match event["type"]:
            case "loaded":
                self.console.print("Trained already.")
            case "restarted":
                self.console.print(f"Training starts again: {event['why']}", soft_wrap=True)
            case "begun" if step:
                self.console.print(f"Continuing from step {step} of {steps}.")
            case "step":
                self.bar.update(self.task, completed=step, total=steps)
                if self.bar.disable and time.monotonic() - self.told > AGAIN_SECONDS:
                    self.told = time.monotonic()
                    self.console.print(f"step {step} of {steps}")
            case "rung":
                loss, seconds = number(event["metrics"]["val_loss"]), event["seconds"]
                self.console.print(f"step {step} of {steps}: val_loss {loss}, {duration(seconds)} of training")
            case "interrupted":
                self.console.print(f"Saved at step {step} of {steps}; the same command continues from there.")


def _print(trained: Mapping[str, Any], console: "Console") -> None:
    """Prints both splits side by side; below them the baselines without a neural network, and how much better the model
    is.
    """
    from nas.cli.tables import table

    metrics = trained["metrics"]
    shown = table("", "val", "test", numbers=("val", "test"))
    for name in metrics:
        own = name.removeprefix("test_")
        if own != name:
            shown.add_row(own, number(metrics.get(f"val_{own}", metrics.get(own, math.nan))), number(metrics[name]))
    val, test = (trained["floors"][split] for split in ("val", "test"))
    for name in val:
        for metric in dict.fromkeys((*val[name], *test[name])):  # a group may stand in one split alone
            shown.add_row(f"{name} {metric}", *(number(floor[name].get(metric, math.nan)) for floor in (val, test)))
    console.print(shown)
    for name, metrics_of_it in trained["differences"].items():
        for metric, told in metrics_of_it.items():
            more, low, high = (f"{told[key]:+.3f}" for key in ("difference", "low", "high"))
            console.print(f"{metric} on the test split minus that of {name}: {more} (95 %: {low} to {high})")
