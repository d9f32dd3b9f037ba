"""`nas train`: the architecture of one trial, trained by itself, tested and kept."""

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

if TYPE_CHECKING:
    from rich.console import Console

    from nas.results import Rung, TrialResult
    from nas.tasks import Task
    from nas.tasks.base import Scores
    from nas.training.recipe import Recipe
    from nas.training.trainer import Trainer


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
    from nas.cli.output import people
    from nas.running.proposer import seed_of
    from nas.running.study_log import keep_log
    from nas.study import open_study
    from nas.tasks import floors_of
    from nas.training.model_folder import WEIGHTS
    from nas.training.recipe import recipe_of, same_task
    from nas.training.training_folder import refuse_foreign, stored_in

    stored = open_study(study)
    chosen = stored.trial(trial)
    seed = seed_of(stored.file.search.seed, trial) if seed is None else seed
    recipe = recipe_of(stored.file, chosen, steps, overrides or [])
    folder = out or stored.folder / "trained" / recipe.folder_name(trial, seed)
    if out:
        refuse_foreign(out)
    identity = {"study": stored.name, "trial": trial, "architecture_id": chosen.architecture_id}
    identity |= {"seed": seed, "steps": recipe.steps, "changed": recipe.changed}
    console = people()
    if (folder / WEIGHTS).exists():
        trained = stored_in(folder, identity)
        console.print("Trained already.")
    else:
        with keep_log(folder, verbose):
            data = stored.record().data
            task = same_task(stored.name, recipe.file, data)
            same = (recipe.file.task, recipe.evaluation_tokens) == (
                stored.file.task,
                stored.file.train.evaluation_tokens,
            )
            floors = data["floors"] if same else floors_of(task, recipe.evaluation_tokens)
            trainer = _trainer(recipe, chosen, task, seed, folder, device)
            trained = _train(trainer, folder, identity | {"floors": floors}, console)
    _print(trained, console)
    typer.echo(folder)


def _trainer(
    recipe: "Recipe", trial: "TrialResult", task: "Task", seed: int, folder: Path, device: str | None
) -> "Trainer":
    """With as many threads as in the search."""
    import torch

    from nas.measure import DeviceLock
    from nas.running.placement import resolve_device
    from nas.training.trainer import Trainer
    from nas.training.training_folder import CHECKPOINT

    file = recipe.file
    torch.set_num_threads(max(1, int(file.resources.cpus_per_trial)))
    device = device or resolve_device(file, None)[0]
    return Trainer(
        trial.model,
        task,
        file.train,
        seed=seed,
        device=device,
        checkpoint=folder / CHECKPOINT,
        learning_rate=recipe.learning_rate,
        lock=DeviceLock(device),
    )


def _train(trainer: "Trainer", folder: Path, identity: dict[str, Any], console: "Console") -> dict[str, Any]:
    """To the last step, then test and save. Exits with 128 + the signal when one came, everything saved."""
    from nas.tasks.base import WHOLE
    from nas.training.model_folder import save_weights
    from nas.training.trainer import TrainingInterrupted
    from nas.training.training_folder import CHECKPOINT

    settings, task = trainer.settings, trainer.task
    if trainer.step:
        console.print(f"Going on from step {trainer.step} of {settings.steps}.")
    with _Watch(trainer, console) as watch:
        try:
            while not trainer.done:
                watch.reached(trainer.run_to_next_rung())
        except TrainingInterrupted:
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
    for name in val:
        for metric in dict.fromkeys((*val[name], *test[name])):  # a group may stand in one split alone
            shown.add_row(f"{name} {metric}", *(number(floor[name].get(metric, math.nan)) for floor in (val, test)))
    console.print(shown)
    for name, metrics_of_it in trained["differences"].items():
        for metric, told in metrics_of_it.items():
            more, low, high = (f"{told[key]:+.3f}" for key in ("difference", "low", "high"))
            console.print(f"{metric} of the test split less that of {name}: {more}, 95 % in {low} to {high}")
