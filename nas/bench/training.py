"""Compares our training with AdamW as nanoGPT uses it: the seconds until ours has the loss that AdamW ends with.

Three trainings take turns on one thread, with the same text, batches of the same size and the same evaluation windows:
`adamw`, the restatement of nanoGPT's CPU setting; `exact`, our recipe on the same architecture; and `free`, our recipe
on an architecture of our own. Our space cannot express three things of nanoGPT's architecture: its layer norms have no
bias, its embedded tokens are not normed, and its logits are not scaled by 8 (nas.models.stack).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import torch
from torch import nn

from nas import files
from nas.architecture import Architecture
from nas.bench import result_folder
from nas.bench.training_restated import CLIP, RestatedGpt, Shape, adamw, learning_rate
from nas.bench.training_speed import speeds
from nas.measure import environment
from nas.settings.study_settings import TrainSettings
from nas.settings.task_settings import TextTask
from nas.tasks import Task, open_task
from nas.training.torch_state import borrowed_torch
from nas.training.trainer import Trainer, rung_steps

CHECKS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Each training is evaluated after these parts of its steps, and then the next one takes its turn."""
EVALUATION_TOKENS = 65_536
FILE = "training.json"
OURS = ("exact", "free")


@dataclass(frozen=True)
class Settings:
    """Holds the settings of a run. `exact_steps` and `free_steps` are the lengths of our two trainings."""

    seeds: int = 3
    steps: int = 2000
    exact_steps: int = 520
    free_steps: int = 320
    corpus: str = "tinyshakespeare"
    shape: Shape = field(default_factory=Shape)
    widths: tuple[int, ...] = (128, 256)
    """The hidden sizes at which the speed of a step is measured."""

    def plain(self) -> dict[str, Any]:
        designs = {name: design(self.shape).model_dump(mode="json") for name, design in DESIGNS.items()}
        return {**asdict(self), "architectures": designs}


@dataclass(frozen=True)
class Check:
    """Holds one evaluation: after `step` steps, and so many seconds of training on the clock and on the CPU."""

    step: int
    seconds: float
    cpu_seconds: float
    loss: float


@dataclass
class Stopwatch:
    """Adds up the seconds of training steps, without those of evaluation. A trainer takes it as its lock."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    stepping: bool = False

    def before_step(self) -> bool:
        """Tells that a training step comes next, and never asks the trainer to stop."""
        self.stepping = True
        return False

    @contextmanager
    def training_step(self) -> Iterator[float]:
        counted, self.stepping = self.stepping, False
        start, cpu_start = time.perf_counter(), time.process_time()
        yield 0.0
        if counted:
            self.seconds += time.perf_counter() - start
            self.cpu_seconds += time.process_time() - cpu_start


class Contestant(Protocol):
    """Trains from one check to the next."""

    @property
    def done(self) -> bool: ...

    def advance(self) -> Check: ...


@dataclass
class OurTraining:
    """Trains by the recipe, with the trainer of every search."""

    trainer: Trainer
    watch: Stopwatch

    @classmethod
    def of(cls, architecture: Architecture, task: Task, steps: int, batch: int, seed: int) -> "OurTraining":
        settings = TrainSettings(steps=steps, batch=batch, rungs=CHECKS, evaluation_tokens=EVALUATION_TOKENS)
        watch = Stopwatch()
        return cls(Trainer(architecture, task, settings, seed=seed, lock=watch, should_stop=watch.before_step), watch)

    @property
    def done(self) -> bool:
        return self.trainer.done

    def advance(self) -> Check:
        rung = self.trainer.run_to_next_rung()
        return Check(rung.step, self.watch.seconds, self.watch.cpu_seconds, rung.metrics["val_loss"])


@dataclass
class RestatedTraining:
    """Trains the restatement of nanoGPT by AdamW."""

    model: nn.Module
    task: Task
    settings: TrainSettings
    generator: torch.Generator
    watch: Stopwatch = field(default_factory=Stopwatch)
    step: int = 0

    def __post_init__(self) -> None:
        self.optimiser = adamw(self.model)

    @classmethod
    def of(cls, shape: Shape, task: Task, steps: int, seed: int) -> "RestatedTraining":
        settings = TrainSettings(steps=steps, batch=shape.batch, rungs=CHECKS)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = RestatedGpt(shape, task.vocabulary)
        return cls(model, task, settings, torch.Generator().manual_seed(seed))

    @property
    def done(self) -> bool:
        return self.step >= self.settings.steps

    def advance(self) -> Check:
        target = next(step for step in rung_steps(self.settings) if step > self.step)
        self.model.train()
        while self.step < target:
            self.watch.before_step()
            with self.watch.training_step():
                self._train_step()
        loss = self.task.evaluate(self.model, "val", EVALUATION_TOKENS)["val_loss"]
        return Check(self.step, self.watch.seconds, self.watch.cpu_seconds, loss)

    def _train_step(self) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.settings.steps)
        inputs, targets = self.task.batch(self.generator, self.settings.batch, "cpu")
        loss = self.task.loss(self.model, inputs, targets)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimiser.step()
        self.step += 1


def exact(shape: Shape) -> Architecture:
    """Describes nanoGPT's architecture, as far as our space can express it."""
    block = {
        "attention": {"kind": "softmax", "heads": shape.heads},
        "position": "learned",
        "norm": "layer",
        "feed_forward": {"kind": "gelu", "ratio": 4.0},
    }
    return Architecture.model_validate({"hidden": shape.hidden, "blocks": [block] * shape.layers})


def free(shape: Shape) -> Architecture:
    """Describes the architecture of our own choice, of the same width and depth."""
    block = {
        "attention": {"kind": "softmax", "heads": shape.heads},
        "position": "rope",
        "norm": "rms",
        "feed_forward": {"kind": "relu2", "ratio": 4.0},
    }
    return Architecture.model_validate({"hidden": shape.hidden, "blocks": [block] * shape.layers})


DESIGNS: Mapping[str, Callable[[Shape], Architecture]] = {"exact": exact, "free": free}


def claim(folder: Path) -> None:
    """Claims the folder before minutes of training.

    Raises Conflict where other programs' files have our names, and OutOfReach when the disk cannot be written.
    """
    result_folder.claim(folder, {FILE: ("environment", "settings", "rows")}, (FILE,))


def compare(settings: Settings, say: Callable[[str], object]) -> dict[str, Any]:
    """Returns {environment, settings, ratios, rows, speed}: a row a training, and the ratios of `ratios`."""
    task = open_task(TextTask(corpus=settings.corpus, context=settings.shape.context, split="90/10"))
    rows = []
    with borrowed_torch(1):
        for seed in range(settings.seeds):
            rows += _race(settings, task, seed, say)
        say("the speed of a step")
        measured = speeds({w: exact_at(settings.shape, w) for w in settings.widths}, task, settings.shape.batch)
    machine = environment() | {"threads": 1}
    told = {"settings": settings.plain(), "ratios": ratios(rows), "rows": rows, "speed": measured}
    return {"environment": machine, **told}


def exact_at(shape: Shape, width: int) -> Architecture:
    """Describes nanoGPT's architecture at another width."""
    return exact(Shape(shape.layers, shape.heads, width, shape.context, shape.batch))


def write(result: Mapping[str, Any], folder: Path) -> None:
    files.write_json(folder / FILE, result)


def ratios(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns, for each of our trainings, its time to AdamW's final loss over the time of AdamW's whole training.

    Each has the ratios of all seeds and their median, on the clock and on the CPU; None where it never had that loss,
    which the median counts as infinite.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in OURS:
        own = [row for row in rows if row["training"] == name]
        found[name] = {"reached": sum(row["ratio"] is not None for row in own), "seeds": len(own)}
        for key in ("ratio", "cpu_ratio"):
            each = [row[key] for row in own]
            middle = median(float("inf") if ratio is None else ratio for ratio in each)
            found[name][key] = {"per_seed": each, "median": None if middle == float("inf") else middle}
    return found


def _race(settings: Settings, task: Task, seed: int, say: Callable[[str], object]) -> list[dict[str, Any]]:
    """Lets the three trainings of a seed take turns, and returns a row for each."""
    shape, steps = settings.shape, {"exact": settings.exact_steps, "free": settings.free_steps}
    racing: dict[str, Contestant] = {"adamw": RestatedTraining.of(shape, task, settings.steps, seed)}
    for name in OURS:
        racing[name] = OurTraining.of(DESIGNS[name](shape), task, steps[name], shape.batch, seed)
    checks: dict[str, list[Check]] = {name: [] for name in racing}
    while left := {name: contestant for name, contestant in racing.items() if not contestant.done}:
        for name, contestant in left.items():
            checks[name].append(contestant.advance())
        told = "  ".join(f"{name} {found[-1].loss:.3f} ({found[-1].seconds:.0f} s)" for name, found in checks.items())
        say(f"seed {seed}: {told}")
    goal = checks["adamw"][-1]
    return [_row(name, seed, found, goal) for name, found in checks.items()]


def _row(name: str, seed: int, checks: Sequence[Check], goal: Check) -> dict[str, Any]:
    """Describes a training by its end, and by the first check at which its loss is AdamW's last one or less."""
    end = checks[-1]
    first = next((check for check in checks if check.loss <= goal.loss), None) if name != "adamw" else goal
    return {
        "training": name,
        "seed": seed,
        "steps": end.step,
        "seconds": end.seconds,
        "cpu_seconds": end.cpu_seconds,
        "loss": end.loss,
        "reached": asdict(first) if first else None,
        "ratio": first.seconds / goal.seconds if first else None,
        "cpu_ratio": first.cpu_seconds / goal.cpu_seconds if first else None,
        "checks": [asdict(check) for check in checks],
    }
