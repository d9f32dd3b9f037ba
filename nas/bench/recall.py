"""Measures what each kind of attention can recall, against the size of its decode state.

The task is multi-query associative recall, as in Zoology (Arora et al. 2023, arXiv:2312.04927, figure 2): two blocks,
no feed-forward, learned positions. Every kind is trained at every learning rate, and the best counts. The defaults are
smaller: 256 tokens, 8 pairs in 64 tokens, hidden 64, new batches. With AdamW softmax learns the rule within 2,000 steps
from some seeds only, so Muon is the default. Sizes, steps, batches and optimiser are the same for all kinds.
"""

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from pydantic import BaseModel, TypeAdapter, ValidationError

from nas import files
from nas.architecture import Architecture, first_error
from nas.bench import recall_figure, result_folder
from nas.bench.pool import side_by_side
from nas.errors import Conflict, InvalidArchitecture, UsageError
from nas.formatting import fixed
from nas.kinds import Kind
from nas.measure import environment
from nas.models.decoder import Decoder
from nas.settings.study_settings import OptimiserName, TrainSettings
from nas.settings.task_settings import AssociativeRecall
from nas.tasks import open_task
from nas.training.trainer import Diverged, Trainer

KINDS = (
    "softmax, window window=8, window window=16, window window=32, linear heads=16, linear heads=4, linear, "
    "gated_delta heads=16, gated_delta heads=4, gated_delta"
)
"""The default kinds, each with states of several sizes: by the window, or by the square of the head size."""
BATCH = 64
COLUMNS = ("kind", "seed", "learning_rate", "state_kib", "val_accuracy", "test_accuracy", "train_seconds")
FILES, UNFINISHED = ("recall.csv", "recall.json", "recall.svg", "recall.png"), ("settings", "rows")
"""The files that are written, and the keys of unfinished.json."""


class FinishedTraining(BaseModel):
    """Describes a row of unfinished.json."""

    kind: str
    seed: int
    learning_rate: float
    state_kib: float
    val_accuracy: float
    test_accuracy: float
    train_seconds: float


class Unfinished(BaseModel):
    """Describes unfinished.json."""

    settings: dict[str, Any]
    rows: list[FinishedTraining]


Row = dict[str, Any]
Training = tuple[str, int, float]
"""Kind, seed and learning rate, the first of COLUMNS."""


@dataclass(frozen=True)
class Settings:
    """Holds the settings of a run, with `kinds` by their names in the results."""

    kinds: Mapping[str, Kind]
    task: AssociativeRecall
    hidden: int
    steps: int
    optimiser: OptimiserName
    rates: tuple[float, ...]
    seeds: int

    def __post_init__(self) -> None:
        """Raises UsageError for a kind that cannot be such a block."""
        for name, kind in self.kinds.items():
            if "causal" not in kind.forms:
                raise UsageError(f"{name} attention has no causal form", where="--kinds", help="leave it out")
            try:
                self.architecture(kind)
            except InvalidArchitecture as error:
                raise UsageError(f"{name}: {error.message}", where="--kinds", help="leave it out") from None

    def plain(self) -> dict[str, Any]:
        kinds = {name: spec.canonical() for name, spec in self.kinds.items()}
        return {**vars(self), "kinds": kinds, "task": self.task.model_dump(mode="json"), "batch": BATCH}

    def training(self) -> dict[str, Any]:
        """Lists what a training's result depends on besides kind, seed and rate."""
        return {key: value for key, value in self.plain().items() if key not in ("kinds", "rates", "seeds")}

    def architecture(self, kind: Kind) -> Architecture:
        block = {"attention": kind.canonical(), "position": "learned", "feed_forward": {"kind": "none"}}
        return Architecture.model_validate({"family": "decoder", "hidden": self.hidden, "blocks": [block, block]})


def task_of(vocabulary: int, context: int, pairs: int, random_gaps: bool) -> AssociativeRecall:
    """Makes the task. Raises UsageError for sizes that do not fit together."""
    sizes = {"vocabulary": vocabulary, "context": context, "pairs": pairs}
    try:
        return AssociativeRecall(kind="associative_recall", random_gaps=random_gaps, **sizes)
    except ValidationError as error:
        first = first_error(error)
        where = f"--{first['loc'][0]}" if first["loc"] else "--vocabulary, --context or --pairs"
        raise UsageError(first["msg"].removeprefix("Value error, "), where=where) from None


def parse_rates(text: str) -> tuple[float, ...]:
    """Parses "0.01,0.03" into learning rates. Raises UsageError."""
    try:
        rates = tuple(sorted({float(word) for word in text.split(",")}))
    except ValueError:
        rates = ()
    if not rates or not all(0 < rate < float("inf") for rate in rates):
        raise UsageError(f"cannot read the learning rates '{text}'", where="--rates", help="for example 0.01,0.03")
    return rates


def claim(folder: Path) -> None:
    """Claims the folder before an hour of training.

    Raises Conflict where other programs' files have our names, and OutOfReach when the disk cannot be written.
    """
    marks = {"recall.json": ("environment", "settings", "rows"), "unfinished.json": UNFINISHED}
    result_folder.claim(folder, marks, FILES)


def compare(settings: Settings, jobs: int, folder: Path, say: Callable[[str], object]) -> dict[str, Any]:
    """Returns {environment, settings, kinds, rows}: a row a training, and for `kinds` the result of `best`.

    `jobs` trainings run side by side. Writes recall.csv, recall.json, recall.svg and recall.png. Until then finished
    trainings are kept in unfinished.json, so that an interrupted run can continue. Raises Conflict when they belong to
    a run with other settings.
    """
    unfinished = folder / "unfinished.json"
    rows = _rows(settings, jobs, unfinished, say)
    result = {
        "environment": environment() | {"threads": 1},
        "settings": settings.plain(),
        "kinds": best(rows),
        "rows": rows,
    }
    _write(result, folder)
    _forget(unfinished, rows)
    return result


def best(rows: Sequence[Row]) -> list[Row]:
    """Picks each kind's rate with the best mean validation accuracy, and returns its test accuracies.

    They are given for each seed, with mean and standard deviation over the seeds.
    """
    found = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        by_rate = {rate: [r for r in own if r["learning_rate"] == rate] for rate in {r["learning_rate"] for r in own}}
        rate = max(by_rate, key=lambda rate: fmean(row["val_accuracy"] for row in by_rate[rate]))
        each = [row["test_accuracy"] for row in sorted(by_rate[rate], key=lambda row: row["seed"])]
        spread = stdev(each) if len(each) > 1 else 0.0
        told = {"accuracy": fmean(each), "accuracy_sd": spread, "each": each, "learning_rate": rate}
        found.append({"kind": kind, "state_kib": own[0]["state_kib"], **told})
    return found


def _rows(settings: Settings, jobs: int, path: Path, say: Callable[[str], object]) -> list[Row]:
    """Returns rows by kind, rate and seed. Each is stored when it is known; stored ones are not trained again."""
    planned = [
        (name, seed, rate) for seed in range(settings.seeds) for rate in settings.rates for name in settings.kinds
    ]
    done = _unfinished(path, settings)
    left = [one for one in planned if one not in done]
    if len(left) < len(planned):
        say(f"{len(planned) - len(left)} of {len(planned)} trainings are there already")
    try:
        for one, row in side_by_side(partial(_train, settings), left, jobs):
            done[one] = row
            files.write_json(path, {"settings": settings.training(), "rows": list(done.values())})
            name, seed, rate = one
            count = sum(known in done for known in planned)
            accuracy = fixed(row["val_accuracy"], 3)
            say(f"{count} of {len(planned)}: {name}, seed {seed}, rate {rate:g}: accuracy {accuracy}")
    except (KeyboardInterrupt, SystemExit):
        say("Finished parts are kept; the same command continues with the rest.")
        raise
    order = list(settings.kinds)
    return [done[one] for one in sorted(planned, key=lambda one: (order.index(one[0]), one[2], one[1]))]


def _unfinished(path: Path, settings: Settings) -> dict[Training, Row]:
    """Reads the trainings of an interrupted run. Raises Conflict with the first difference of its settings."""
    if not os.path.lexists(path):
        return {}
    stored, now = result_folder.read(path, shape=TypeAdapter(Unfinished)), settings.training()
    for key in now:
        if stored["settings"].get(key) != now[key]:
            raise Conflict(
                "the folder holds trainings of a run that was stopped, with other settings",
                code="settings-changed",
                where=f"{path}: {key}",
                detail=f"stored {stored['settings'].get(key)}   now {now[key]}",
                help="--out DIR   writes to another folder; or delete the file",
            )
    return {(row["kind"], row["seed"], row["learning_rate"]): row for row in stored["rows"]}


def _forget(path: Path, rows: Sequence[Row]) -> None:
    """Removes these rows from unfinished.json, which may hold others of a larger run."""
    stored = result_folder.read(path, UNFINISHED) if path.exists() else {"rows": []}
    if left := [row for row in stored["rows"] if row not in rows]:
        files.write_json(path, stored | {"rows": left})
    else:
        path.unlink(missing_ok=True)


def _write(result: Mapping[str, Any], folder: Path) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(result["rows"])
    files.write_json(folder / "recall.json", result)  # first, since it marks the folder
    files.write_text(folder / "recall.csv", text.getvalue())
    recall_figure.write(result, folder / "recall")


def _train(settings: Settings, one: Training) -> Row:
    """Trains and tests once, in its own process; the accuracy is 0 where training diverges."""
    torch.set_num_threads(1)
    name, seed, rate = one
    architecture, task = settings.architecture(settings.kinds[name]), open_task(settings.task)
    recipe = TrainSettings(
        steps=settings.steps, batch=BATCH, rungs=(1.0,), optimiser=settings.optimiser, learning_rate=(rate,)
    )
    trainer = Trainer(architecture, task, recipe, seed=seed)
    assert isinstance(trainer.model, Decoder)
    state = trainer.model.state_bytes(1, task.context) / 1024
    try:
        val = trainer.run_to_next_rung().metrics["val_accuracy"]
        test = task.evaluate(trainer.model, "test")["test_accuracy"]
    except Diverged:
        val = test = 0.0
    return dict(zip(COLUMNS, (name, seed, rate, state, val, test, trainer.seconds), strict=True))
