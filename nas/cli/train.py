"""`nas train`: the architecture of one trial, trained by itself, tested and kept."""

import json
import math
import signal
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from nas import paired
from nas.cli.options import MOST_SEED, Overrides, StudyName, TrialNumber, Verbose, out_folder
from nas.errors import Conflict, InvalidStudyFile, UsageError

WHOLE = 10**9
"""Tokens of the test split, at most: all of it."""

if TYPE_CHECKING:
    from rich.console import Console

    from nas.results import Rung, StudyRecord, TrialResult
    from nas.search import Study
    from nas.study_file import StudyFile
    from nas.tasks import Task
    from nas.tasks.base import Scores
    from nas.train import Trainer

CHECKPOINT = "checkpoint.safetensors"
KEPT = {"train.steps": "use --steps", "train.time_limit": "there is none here: Ctrl-C saves at any time"}
"""Keys of [train] that -s does not change, and what to do instead."""


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
    overrides: Overrides = None,
    verbose: Verbose = 0,
) -> None:
    """Train the architecture of a trial.

    Tests it, keeps its weights, and prints the folder that holds them. With the study's own settings and the trial's
    seed it repeats the trial; -s changes a key of [train], as in -s train.learning_rate=0.01, or task.split. Ctrl-C
    saves; the same command goes on from there.

    Exit codes: 0; 1 when training diverges; 2 for a trial or a key that there is not; 4 when the data or the folder is
    another's; 130 and 143 interrupted, saved.
    """
    from nas.artifact import WEIGHTS
    from nas.cli.log import keep_log
    from nas.cli.output import people
    from nas.search import open_study
    from nas.search.sampler import seed_of

    stored = open_study(study)
    chosen, record = stored.trial(trial), stored.record()
    seed = seed_of(stored.file.search.seed, trial) if seed is None else seed
    file, rate = _recipe(stored, chosen, steps, overrides or [])
    changed = _changed(file, rate, stored.file, chosen.learning_rate)
    told = (f"{key}={value}".replace("/", "_") for key, value in changed.items())
    name = "-".join((str(trial), f"s{seed}", str(file.train.steps), *told))
    folder = out or stored.folder / "trained" / name
    if out:
        _refuse_foreign(out)
    identity = {"study": stored.name, "trial": trial, "architecture_id": chosen.architecture_id}
    identity |= {"seed": seed, "steps": file.train.steps, "changed": changed}
    console = people()
    if (folder / WEIGHTS).exists():
        trained = _stored(folder, identity)
        console.print("Trained already.")
    else:
        with keep_log(folder, verbose):
            trainer = _trainer(stored, file, record, chosen, rate, seed, folder, device)
            floors = record.data["floors"] if file.task == stored.file.task else _floors(trainer.task)
            trained = _train(trainer, folder, identity | {"floors": floors}, console)
    _print(trained, console)
    typer.echo(folder)


def _recipe(
    stored: "Study", trial: "TrialResult", steps: int | None, overrides: list[str]
) -> tuple["StudyFile", float | None]:
    """The study's file as it is to be trained, and the learning rate. The time limit, which protects a search, is
    lifted. Raises UsageError."""
    from nas import study_file
    from nas.train import only_rate

    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in KEPT or not (key.startswith("train.") or key == "task.split"):
            raise UsageError(
                f"nothing but [train] and task.split can be changed, so not '{override}'",
                where="-s",
                help=KEPT.get(key, "for example -s train.learning_rate=0.01"),
            )
    try:
        file = study_file.parse(stored.file.to_toml(), overrides)
    except InvalidStudyFile as error:
        raise UsageError(error.message, where="-s", help=error.help) from None
    settings, searched = file.train, stored.file.train
    rate = trial.learning_rate if settings.learning_rate == searched.learning_rate else only_rate(settings)
    update: dict[str, Any] = {"steps": steps or searched.steps, "time_limit": None}
    if rate == trial.learning_rate:
        update["learning_rate"] = searched.learning_rate
    return file.model_copy(update={"train": settings.model_copy(update=update)}), rate


def _changed(
    file: "StudyFile", rate: float | None, searched: "StudyFile", searched_rate: float | None
) -> dict[str, Any]:
    """What differs from the search, beside the steps."""
    apart = {"steps", "time_limit", "learning_rate"}
    now, then = (
        f.task.model_dump(mode="json") | f.train.model_dump(mode="json", exclude=apart) for f in (file, searched)
    )
    changed = {key: value for key, value in now.items() if value != then[key]}
    return changed if rate == searched_rate else changed | {"learning_rate": rate}


def _floors(task: "Task") -> dict[str, Any]:
    """As a search stores them."""
    return {split: task.floors(split) for split in ("val", "test")}


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


def _stored(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """What a finished training wrote of itself. Raises Conflict when the folder holds another one."""
    from nas.artifact import METRICS

    try:
        stored: dict[str, Any] = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stored = {}  # weights that no training here has written
    stored = {"changed": {}, "differences": {}, **stored}
    for key, value in identity.items():
        if stored.get(key) != value:
            raise Conflict(
                "the folder holds another training",
                code="trained-conflict",
                where=str(folder),
                detail=f"{key}: stored {stored.get(key)}, now {value}",
                help="choose another --out",
            )
    return stored


def _trainer(
    stored: "Study",
    file: "StudyFile",
    record: "StudyRecord",
    trial: "TrialResult",
    learning_rate: float | None,
    seed: int,
    folder: Path,
    device: str | None,
) -> "Trainer":
    """With as many threads as in the search."""
    import torch

    from nas.measure import DeviceLock
    from nas.search.resources import resolve_device
    from nas.train import Trainer

    task = _same_task(stored, file, record)
    torch.set_num_threads(max(1, int(file.resources.cpus_per_trial)))
    device = device or resolve_device(file, None)[0]
    return Trainer(
        trial.model,
        task,
        file.train,
        seed=seed,
        device=device,
        checkpoint=folder / CHECKPOINT,
        learning_rate=learning_rate,
        lock=DeviceLock(device),
    )


def _same_task(stored: "Study", file: "StudyFile", record: "StudyRecord") -> "Task":
    """The file's task. Raises Conflict when the data of the study has changed since the search."""
    from nas.tasks import open_task

    task = open_task(file.task)
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


def _train(trainer: "Trainer", folder: Path, identity: dict[str, Any], console: "Console") -> dict[str, Any]:
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
    tested = task.examine(trainer.model, "test", WHOLE, device=trainer.device, turn=trainer.turn)
    trained = identity | {
        "metrics": {**trainer.rungs[-1].metrics, **tested.metrics},
        "differences": _differences(tested.scores, task.guesses("test")),
    }
    save_weights(
        folder,
        trainer.model,
        trainer.architecture,
        coder=task.coder,
        context=task.context,
        head=task.head,
        metrics=trained,
    )
    (folder / CHECKPOINT).unlink()
    return trained


def _differences(scores: "Scores", guesses: Mapping[str, "Scores"]) -> dict[str, dict[str, dict[str, float]]]:
    """Floor → metric → how much better the model does the same examples (nas.paired)."""
    return {
        name: {metric: asdict(paired.difference(scores[metric], values)) for metric, values in guessed.items()}
        for name, guessed in guesses.items()
    }


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


def _print(trained: Mapping[str, Any], console: "Console") -> None:
    """Both splits side by side; below them what costs no neural network, and how much better the model is."""
    from nas.cli.tables import number, table

    metrics = trained["metrics"]
    shown = table("", "val", "test", numbers=("val", "test"))
    for name in metrics:
        own = name.removeprefix("test_")
        if own != name:
            shown.add_row(own, number(metrics.get(f"val_{own}", metrics.get(own, math.nan))), number(metrics[name]))
    val, test = (trained["floors"][split] for split in ("val", "test"))
    for name, metrics_of_it in val.items():
        for metric, value in metrics_of_it.items():
            shown.add_row(f"{name} {metric}", number(value), number(test[name][metric]))
    console.print(shown)
    for name, metrics_of_it in trained["differences"].items():
        for metric, told in metrics_of_it.items():
            more, low, high = (f"{told[key]:+.3f}" for key in ("difference", "low", "high"))
            console.print(f"{metric} of the test split less that of {name}: {more}, 95 % in {low} to {high}")
