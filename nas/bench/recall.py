"""What each kind of attention can find again: multi-query associative recall, against the size of the decode state.

As in Zoology (Arora et al. 2023, arXiv:2312.04927, figure 2): two blocks, no feed-forward, learned positions, AdamW;
every kind is trained at every learning rate, and the best counts. Smaller: by default 256 tokens, 8 pairs in 64 tokens,
hidden 64, and every batch is fresh. Sizes, steps and batches are the same for all kinds.
"""

import csv
import io
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from pydantic import ValidationError

from nas import files
from nas.architecture import Architecture, first_error
from nas.bench import recall_figure
from nas.bench.launches import sigterm_raises
from nas.errors import InvalidArchitecture, UsageError
from nas.kinds import Kind
from nas.measure import environment
from nas.models.decoder import Decoder
from nas.study_file import TrainSettings
from nas.task_settings import AssociativeRecall
from nas.tasks import open_task
from nas.train import Diverged, Trainer

KINDS = (
    "softmax, window window=8, window window=16, window window=32, linear heads=16, linear heads=4, linear, "
    "gated_delta heads=16, gated_delta heads=4, gated_delta"
)
"""Each with a state that grows: with the window, or with the square of the head size."""
BATCH = 64
COLUMNS = ("kind", "seed", "learning_rate", "state_kib", "val_accuracy", "test_accuracy", "train_seconds")
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """`kinds`: by the names under which they are told."""

    kinds: Mapping[str, Kind]
    task: AssociativeRecall
    hidden: int
    steps: int
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

    def architecture(self, kind: Kind) -> Architecture:
        block = {"attention": kind.canonical(), "position": "learned", "feed_forward": {"kind": "none"}}
        return Architecture.model_validate({"family": "decoder", "hidden": self.hidden, "blocks": [block, block]})


def task_of(vocabulary: int, context: int, pairs: int, random_gaps: bool) -> AssociativeRecall:
    """Raises UsageError for sizes that cannot be."""
    sizes = {"vocabulary": vocabulary, "context": context, "pairs": pairs}
    try:
        return AssociativeRecall(kind="associative_recall", random_gaps=random_gaps, **sizes)
    except ValidationError as error:
        first = first_error(error)
        where = f"--{first['loc'][0]}" if first["loc"] else "--vocabulary, --context or --pairs"
        raise UsageError(first["msg"].removeprefix("Value error, "), where=where) from None


def parse_rates(text: str) -> tuple[float, ...]:
    """ "0.01,0.03" → the learning rates. Raises UsageError."""
    try:
        rates = tuple(sorted({float(word) for word in text.split(",")}))
    except ValueError:
        rates = ()
    if not rates or not all(0 < rate < float("inf") for rate in rates):
        raise UsageError(f"cannot read the learning rates '{text}'", where="--rates", help="for example 0.01,0.03")
    return rates


def compare(settings: Settings, jobs: int, say: Callable[[str], object]) -> dict[str, Any]:
    """{environment, settings, kinds: what `best` tells, rows}: a row a training. `jobs` trainings run side by side."""
    order = list(settings.kinds)
    rows = sorted(
        _rows(settings, jobs, say), key=lambda row: (order.index(row["kind"]), row["learning_rate"], row["seed"])
    )
    return {
        "environment": environment() | {"threads": 1},
        "settings": settings.plain(),
        "kinds": best(rows),
        "rows": rows,
    }


def best(rows: Sequence[Row]) -> list[Row]:
    """Of each kind the rate with the best mean validation accuracy: its test accuracy at each seed, mean and standard
    deviation over the seeds."""
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


def write(result: Mapping[str, Any], folder: Path) -> None:
    """recall.csv, recall.json, recall.svg and recall.png."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(result["rows"])
    files.write_text(folder / "recall.csv", text.getvalue())
    files.write_json(folder / "recall.json", result)
    recall_figure.write(result, folder / "recall")


def _rows(settings: Settings, jobs: int, say: Callable[[str], object]) -> Iterator[Row]:
    planned = [
        (name, seed, rate) for seed in range(settings.seeds) for rate in settings.rates for name in settings.kinds
    ]
    with (
        tempfile.TemporaryDirectory(prefix="nas-bench-") as folder,
        sigterm_raises(),
        ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_prepare) as pool,
    ):
        go = Path(folder) / "go"
        go.touch()
        futures = [pool.submit(_train, settings, *one, go, os.getpid()) for one in planned]
        try:
            for count, future in enumerate(as_completed(futures), start=1):
                row = future.result()
                told = f"{row['kind']}, seed {row['seed']}, rate {row['learning_rate']:g}"
                say(f"{count} of {len(planned)}: {told}: accuracy {row['val_accuracy']:.3f}")
                yield row
        finally:
            go.unlink()
            pool.shutdown(wait=False, cancel_futures=True)


def _prepare() -> None:
    """One thread each; Ctrl-C is told by the process that was asked, which is then gone."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _train(settings: Settings, name: str, seed: int, rate: float, go: Path, parent: int) -> Row:
    """One training and its test, given up when `go` or the parent is gone; of one that diverges the accuracy is 0."""
    architecture, task = settings.architecture(settings.kinds[name]), open_task(settings.task)
    recipe = TrainSettings(steps=settings.steps, batch=BATCH, rungs=(1.0,), optimiser="adamw", learning_rate=(rate,))
    trainer = Trainer(
        architecture, task, recipe, seed=seed, should_stop=lambda: not go.exists() or os.getppid() != parent
    )
    assert isinstance(trainer.model, Decoder)
    state = trainer.model.state_bytes(1, task.context) / 1024
    try:
        val = trainer.run_to_next_rung().metrics["val_accuracy"]
        test = task.evaluate(trainer.model, "test")["test_accuracy"]
    except Diverged:
        val = test = 0.0
    row = dict(zip(COLUMNS, (name, seed, rate, state, val, test, trainer.seconds), strict=True))
    return row
