"""`nas train`: the architecture of one trial, trained by itself, tested and kept."""

import json
import math
import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from nas.cli.options import MOST_SEED, StudyName, TrialNumber, Verbose, out_folder
from nas.errors import Conflict

WHOLE = 10**9
"""Tokens of the test split, at most: all of it."""

if TYPE_CHECKING:
    from rich.console import Console

    from nas.results import Rung, StudyRecord, TrialResult
    from nas.search import Study
    from nas.tasks import Task
    from nas.train import Trainer

CHECKPOINT = "checkpoint.safetensors"


def train(
    study: StudyName,
    trial: TrialNumber,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Default: as in the search.")] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=MOST_SEED, help="Default: the trial's own seed.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", parser=out_folder, help="Default: runs/STUDY/trained/TRIAL-sSEED-STEPS."),
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda or cuda:N; default: as the study.")] = None,
    verbose: Verbose = 0,
) -> None:
    """Train the architecture of a trial.

    Tests it, keeps its weights, and prints the folder that holds them. With the study's own steps and seed it repeats
    the trial. Ctrl-C saves; the same command goes on from there.

    Exit codes: 0; 1 when training diverges; 4 when the data or the folder is another's; 130 and 143 interrupted, saved.
    """
    from nas.artifact import WEIGHTS
    from nas.cli.log import keep_log
    from nas.cli.output import people
    from nas.search import open_study
    from nas.search.sampler import seed_of

    stored = open_study(study)
    chosen, record = stored.trial(trial), stored.record()
    steps = steps or stored.file.train.steps
    seed = seed_of(stored.file.search.seed, trial) if seed is None else seed
    folder = out or stored.folder / "trained" / f"{trial}-s{seed}-{steps}"
    if out:
        _refuse_foreign(out)
    identity = {"study": stored.name, "trial": trial, "architecture_id": chosen.architecture_id}
    identity |= {"seed": seed, "steps": steps}
    console = people()
    if (folder / WEIGHTS).exists():
        metrics = _stored_metrics(folder, identity)
        console.print("Trained already.")
    else:
        with keep_log(folder, verbose):
            trainer = _trainer(stored, record, chosen, steps, seed, folder, device)
            metrics = _train(trainer, folder, identity, record, console)
    _print_metrics(metrics, record, console)
    typer.echo(folder)


def _refuse_foreign(folder: Path) -> None:
    """Raises Conflict when the folder is a file, or holds what no training writes."""
    from nas.artifact import ARCHITECTURE, METRICS, VOCABULARY, WEIGHTS

    own = {WEIGHTS, ARCHITECTURE, VOCABULARY, METRICS, CHECKPOINT, "nas.log"}
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    # A file that was being written when its process was killed is named .NAME.PROCESS.tmp.
    foreign = sorted(name for name in names if name not in own and not name.endswith(".tmp"))
    if foreign or (folder.exists() and not folder.is_dir()):
        raise Conflict(
            "the folder holds something else than a training" if foreign else "a file stands where the folder belongs",
            code="not-a-training",
            where=str(folder),
            detail=f"found: {', '.join(foreign[:5])}" if foreign else "",
            help="give the training a folder of its own",
        )


def _stored_metrics(folder: Path, identity: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a finished training. Raises Conflict when the folder holds another one."""
    from nas.artifact import METRICS

    try:
        stored = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stored = {}  # weights that no training here has written
    for key, value in identity.items():
        if stored.get(key) != value:
            raise Conflict(
                "the folder holds another training",
                code="trained-conflict",
                where=str(folder),
                detail=f"{key}: stored {stored.get(key)}, now {value}",
                help="choose another --out",
            )
    metrics: dict[str, float] = stored["metrics"]
    return metrics


def _trainer(
    stored: "Study",
    record: "StudyRecord",
    trial: "TrialResult",
    steps: int,
    seed: int,
    folder: Path,
    device: str | None,
) -> "Trainer":
    """Threads, batch and learning rate as in the search; the time limit, which protects a search, is lifted."""
    import torch

    from nas.measure import DeviceLock
    from nas.search.resources import resolve_device
    from nas.train import Trainer

    file = stored.file
    task = _same_task(stored, record)
    torch.set_num_threads(max(1, int(file.resources.cpus_per_trial)))
    device = device or resolve_device(file, None)[0]
    return Trainer(
        trial.model,
        task,
        file.train.model_copy(update={"steps": steps, "time_limit": None}),
        seed=seed,
        device=device,
        checkpoint=folder / CHECKPOINT,
        learning_rate=trial.learning_rate,
        lock=DeviceLock(device),
    )


def _same_task(stored: "Study", record: "StudyRecord") -> "Task":
    """The study's task. Raises Conflict when its data has changed since the search."""
    from nas.tasks import open_task

    task = open_task(stored.file.task)
    now, then = task.describe()["sha256"], record.data["sha256"]
    if now != then:
        raise Conflict(
            f"the data of study '{stored.name}' has changed",
            code="data-changed",
            where="task.corpus",
            detail=f"stored sha256 {then[:12]}   now {now[:12]}",
            help="bring the former text back, or search again with the new one",
        )
    return task


def _train(
    trainer: "Trainer", folder: Path, identity: dict[str, Any], record: "StudyRecord", console: "Console"
) -> dict[str, float]:
    """To the last step, then test and save. Exits with 128 + the signal when one came, everything saved."""
    from nas.artifact import save_weights
    from nas.train import Interrupted

    settings, task = trainer.settings, trainer.task
    if trainer.step:
        console.print(f"Going on from step {trainer.step} of {settings.steps}.")
    with _Watch(trainer, console) as watch:
        try:
            while not trainer.done:
                watch.reached(trainer.run_to_next_rung())
        except Interrupted:
            console.print(f"Saved at step {trainer.step} of {settings.steps}; the same command goes on from there.")
            raise typer.Exit(128 + watch.signal) from None
    tested = task.evaluate(trainer.model, "test", WHOLE, device=trainer.device, turn=trainer.turn)
    metrics = {**trainer.rungs[-1].metrics, **tested}
    save_weights(
        folder,
        trainer.model,
        trainer.architecture,
        coder=task.coder,
        context=task.context,
        head=task.head,
        metrics=identity | {"metrics": metrics, "floors": record.data["floors"]},
    )
    (folder / CHECKPOINT).unlink()
    return metrics


class _Watch:
    """Looks on before every step: moves the bar, and says stop once a signal has come. A second one acts as ever."""

    def __init__(self, trainer: "Trainer", console: "Console") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
        self.trainer, self.console, self.signal = trainer, console, 0
        self.bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.task = self.bar.add_task("", total=trainer.settings.steps)
        self.former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def __enter__(self) -> Self:
        self.trainer.should_stop = self._before_step
        for number in self.former:
            signal.signal(number, self._signalled)
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        for number, handler in self.former.items():
            signal.signal(number, handler)

    def reached(self, rung: "Rung") -> None:
        from nas.cli.tables import number

        loss, total = number(rung.metrics["val_loss"]), self.trainer.settings.steps
        self.console.print(f"step {rung.step} of {total}: val_loss {loss}, {rung.seconds:.1f} s of training")

    def _before_step(self) -> bool:
        self.bar.update(self.task, completed=self.trainer.step)
        return self.signal != 0

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, self.former[signal.Signals(number)])


def _print_metrics(metrics: Mapping[str, float], record: "StudyRecord", console: "Console") -> None:
    """Both splits side by side; below them what costs no neural network."""
    from nas.cli.tables import number, table

    shown = table("", "val", "test", numbers=("val", "test"))
    for name in metrics:
        own = name.removeprefix("test_")
        if own != name:
            shown.add_row(own, number(metrics.get(f"val_{own}", metrics.get(own, math.nan))), number(metrics[name]))
    val, test = (record.data["floors"][split] for split in ("val", "test"))
    for name, metrics_of_it in val.items():
        for metric, value in metrics_of_it.items():
            shown.add_row(f"{name} {metric}", number(value), number(test[name][metric]))
    console.print(shown)
