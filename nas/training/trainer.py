"""Trains any task with one loop: to the next rung, evaluated, saved, and resumable at any step.

On one CPU thread, the same architecture, task, settings, seed and learning rate give the same weights, interrupted or
not.
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from nas.architecture import Architecture
from nas.errors import Conflict, NasError
from nas.measure.resident import give_back
from nas.results import Rung
from nas.settings.recipe_versions import FIRST
from nas.settings.study_settings import TrainSettings
from nas.tasks import Task
from nas.training import compiling
from nas.training.checkpoints import Checkpoints, OneCheckpoint, of_another_training
from nas.training.data_parallel import DataParallel
from nas.training.execution import Execution
from nas.training.model_folder import copy_into, read_tensors, write_tensors
from nas.training.progress import progress_of
from nas.training.stepper import Stepper

log = logging.getLogger(__name__)

UNIFORM_MARGIN, EARLY_MARGIN = 1.01, 2.0
"""A loss above that of uniform guessing by more than this factor means that training has diverged: the first factor at
the last rung, the second at earlier ones. After a few steps a sound model may still be 5 % worse than uniform guessing.
"""

MOST_DESCRIPTION_BYTES = 16 * 2**20
"""The most bytes of a checkpoint beside its tensors: their names, the settings, the rungs, a generator's state."""

LATER_SETTINGS = {"micro_batch": None, "precision": "auto", "compile": "auto", "recipe": FIRST}
"""Settings that the first checkpoints do not have, with the values that these mean."""

TURN_SECONDS = {"cpu": 0.0, "cuda": 0.05}
"""The seconds that the steps of one turn take together, by kind of device. A GPU works on while this process prepares
the next step, and the losses are read once a turn. On the CPU, a turn is one step.
"""


class Diverged(NasError):
    """The loss is not finite, or is above the task's `most_loss`."""

    code = "nan"


class TimeLimit(NasError):
    """The training took longer than `time_limit`."""

    code = "timeout"


class TrainingInterrupted(NasError):
    """The training was asked to stop; the checkpoint holds this very step."""

    code = "interrupted"


class SharedLock(Protocol):
    """Lets a measurement on the same device go first (nas.measure.exclusive.DeviceLock)."""

    def training_step(self) -> AbstractContextManager[float]:
        """Holds the lock during one step; yields the seconds waited for it."""


def never() -> bool:
    return False


def rung_steps(settings: TrainSettings) -> tuple[int, ...]:
    """Returns the steps after which trials are compared: rising, at least 1 apart, the last one the full budget."""
    return tuple(sorted({max(1, round(share * settings.steps)) for share in settings.rungs}))


class Trainer:
    """Trains one architecture, rung by rung.

    `checkpoint` is the file, or the place for several, in which the state is saved at every rung and when interrupted;
    the training continues from the furthest that exists. `learning_rate` is the one that the search chose. `lock` is
    held during every training step and evaluation batch. `should_stop` is asked before every step, on a GPU before a
    few of them. `parallel` leads the other ranks of a data-parallel training, whose number may change when a checkpoint
    is continued. `seconds` counts training steps alone, without waiting and evaluation.
    """

    def __init__(
        self,
        architecture: Architecture,
        task: Task,
        settings: TrainSettings,
        *,
        seed: int,
        device: str = "cpu",
        checkpoint: Path | Checkpoints | None = None,
        learning_rate: float | None = None,
        lock: SharedLock | None = None,
        should_stop: Callable[[], bool] = never,
        parallel: DataParallel | None = None,
    ) -> None:
        self.architecture, self.task, self.settings, self.device = architecture, task, settings, device
        self.checkpoints = OneCheckpoint(checkpoint) if isinstance(checkpoint, Path) else checkpoint
        self.should_stop = should_stop
        self.turn = lock.training_step if lock else nullcontext
        # What must agree for a checkpoint to be continued.
        self.identity = {
            "architecture": architecture.id,
            "seed": seed,
            "learning_rate": learning_rate,
            "task": type(task).__name__,
            "head": list(task.head.classes),
            "data": task.describe()["sha256"],
            "context": task.context,
            "splits": task.describe().get("splits"),
            "settings": _compared(settings),
        }
        self.stepper = Stepper(architecture, task, settings, seed=seed, device=device, learning_rate=learning_rate)
        self.model, self.optimiser, self.generator = self.stepper.model, self.stepper.optimiser, self.stepper.generator
        self.step, self.seconds = 0, 0.0
        self._turn_steps, self._turn_seconds = 0, 0.0
        self.parallel, self._prepared = parallel, False
        self.rungs: tuple[Rung, ...] = ()
        self.anew = ""
        """The reason why an existing checkpoint could not be continued; empty when it could, or when there was none."""
        if self.checkpoints:
            self._restore(self.checkpoints)

    @property
    def done(self) -> bool:
        return self.step >= self.settings.steps

    def run_to_next_rung(self) -> Rung:
        """Trains to the next rung, evaluates on the validation split, and saves.

        Raises Diverged, TimeLimit, TrainingInterrupted.
        """
        if self.done:
            raise ValueError(f"training is done: all {self.settings.steps} steps are taken")
        target = next(step for step in rung_steps(self.settings) if step > self.step)
        self.model.train()
        while self.step < target:
            if self.should_stop():
                self.save()
                raise TrainingInterrupted(f"stopped at step {self.step} of {self.settings.steps}")
            self._train_turn(target)
        give_back()  # steps and evaluations need blocks of other sizes, and would not use each other's
        metrics = self.task.evaluate(
            self.model, "val", self.settings.evaluation_tokens, device=self.device, turn=self.turn
        )
        give_back()
        most = (UNIFORM_MARGIN if self.done else EARLY_MARGIN) * self.task.most_loss
        loss = metrics["val_loss"]
        if not (math.isfinite(loss) and loss <= most):
            raise Diverged(
                f"validation loss {loss:.3f} after {self.step} steps, where guessing evenly gives "
                f"{self.task.guessing:.3f}",
                help="lower train.learning_rate",
            )
        speed = self.stepper.tokens / self.seconds
        told = {"train_seconds": self.seconds, "tokens_per_second": speed, **self.stepper.execution.told()}
        rung = Rung(self.step, self.seconds, {**metrics, **told})
        self.rungs += (rung,)
        self.save()
        return rung

    def save(self) -> None:
        """Writes the checkpoint, if a place is given for it."""
        if self.checkpoints:
            rungs = [{"step": r.step, "seconds": r.seconds, "metrics": dict(r.metrics)} for r in self.rungs]
            progress = {"step": self.step, "seconds": self.seconds, "tokens": self.stepper.tokens, "rungs": rungs}
            tensors = {**self.stepper.tensors(), "generator": self.generator.get_state()}
            execution = self.stepper.execution.told()
            metadata = {"identity": self.identity, "progress": progress} | (
                {"execution": execution} if execution else {}
            )
            write_tensors(self.checkpoints.path(self.step), tensors, metadata)
            self.checkpoints.written(self.step)

    def _train_turn(self, target: int) -> None:
        """Takes one step, or on a GPU as many as fit a turn, up to the target."""
        self._prepare()
        count = min(target - self.step, self._fitting())
        with self.turn():
            started = time.perf_counter()
            values = self._steps(count)
            self._turn_seconds = time.perf_counter() - started
        self._turn_steps = count
        self.seconds += self._turn_seconds
        self.step += count
        for step, value in enumerate(values, start=self.step - count + 1):
            if not math.isfinite(value):
                raise Diverged(f"training loss is {value} at step {step}", help="lower train.learning_rate")
        limit = self.settings.time_limit
        if limit and self.seconds > limit:
            raise TimeLimit(
                f"{self.step} of {self.settings.steps} steps took {self.seconds:.1f} s",
                where="train.time_limit",
                detail=f"the limit is {limit:g} s",
                help="raise the limit, or train fewer steps",
            )

    def _fitting(self) -> int:
        """Returns how many steps fit a turn, by the time of the last one; at first one."""
        turn = TURN_SECONDS.get(self.device.partition(":")[0], 0.0)
        return max(1, int(turn * self._turn_steps / self._turn_seconds)) if self._turn_seconds else 1

    def _prepare(self) -> None:
        """Decides whether to compile, and has the other ranks begin, before the first step that this process takes.

        A training that is continued is computed as it was before.
        """
        if self._prepared:
            return
        if self.step == 0:
            self.stepper.execution = replace(self.stepper.execution, compiled=self._compiles())
        if self.parallel:
            training = {
                "architecture": self.architecture.canonical(),
                "settings": self.settings.model_dump(mode="json"),
                "seed": self.identity["seed"],
                "learning_rate": self.identity["learning_rate"],
                "execution": self.stepper.execution.told(),
            }
            with self.parallel.led():
                self.stepper.join(self.parallel.begin(training))
        self._prepared = True

    def _compiles(self) -> bool:
        """Takes the time of the decision as time of training."""
        if isinstance(self.settings.compile, bool):
            return self.settings.compile
        started = time.perf_counter()
        found = compiling.pays(self.stepper, len(self.parallel.devices) if self.parallel else 1, self.turn)
        self.seconds += time.perf_counter() - started
        return found

    def _steps(self, count: int) -> list[float]:
        """Takes so many steps on all ranks. Returns their losses.

        Reading these waits for the device, so that the steps have really ended when the turn is given back.
        """
        with self.parallel.led() if self.parallel else nullcontext():
            if self.parallel:
                self.parallel.steps(count)
            losses: list[float] = torch.stack([self.stepper.take() for _ in range(count)]).tolist()
        return losses

    def _restore(self, checkpoints: Checkpoints) -> None:
        """Continues from the furthest checkpoint that is whole, and of this training."""
        refused = ""
        for name in checkpoints.names():
            try:
                self._continue(checkpoints.fetch(name, self._most_bytes()))
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                refused = refused or str(error)
            except Conflict as conflict:
                if checkpoints.strict:
                    raise
                refused = refused or f"{conflict.where}: {conflict.message}"
            else:
                checkpoints.continued(name)
                break
        else:
            self.anew = refused
        if refused:
            log.warning("training %s: %s", "starts again" if self.anew else f"goes on from {name}", refused)

    def _most_bytes(self) -> int:
        """Returns the most bytes that a checkpoint of this training can have."""
        return sum(tensor.nbytes for tensor in self.stepper.tensors().values()) + MOST_DESCRIPTION_BYTES

    def _continue(self, path: Path) -> None:
        """Continues from a checkpoint. Raises OSError or ValueError for one that is not whole, and Conflict for that of
        another training.
        """
        tensors, metadata = read_tensors(path)
        stored = metadata.get("identity")
        stored = stored if isinstance(stored, dict) else {}
        # A key that its version did not know is no contradiction.
        if not stored or self.identity | stored != self.identity:
            raise of_another_training(path, stored, self.identity)
        state, own = tensors.pop("generator", None), self.generator.get_state()
        try:
            progress = progress_of(metadata, rung_steps(self.settings))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        sound = state is not None and (state.shape, state.dtype) == (own.shape, own.dtype)
        if state is None or not sound or not copy_into(self.stepper.tensors(), tensors):
            raise ValueError(f"{path} holds other tensors than this version writes")
        self.generator.set_state(state)
        self.stepper.execution = Execution.from_stored(metadata.get("execution"))
        self.step, self.seconds, self.rungs = progress.step, progress.seconds, progress.reached()
        told = progress.tokens
        self.stepper.tokens = self.step * self.settings.batch * self.task.context if told is None else told


def _compared(settings: TrainSettings) -> dict[str, Any]:
    """Returns the settings that must agree; later keys appear where they differ from what old files mean."""
    told = settings.model_dump(mode="json", exclude={"time_limit"})
    return {key: value for key, value in told.items() if key not in LATER_SETTINGS or value != LATER_SETTINGS[key]}
