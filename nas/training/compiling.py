"""Decides whether compiling a training pays within it: measured once for each shape, and remembered on this machine.

torch.compile takes s seconds for a model, and then saves d seconds a step: it pays where s < d · (steps to take).
"""

import hashlib
import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from nas import files
from nas.data.fetch import cache
from nas.errors import OutOfReach
from nas.tasks.base import Turn
from nas.training.execution import BACKEND, can_compile
from nas.training.stepper import Stepper

USUAL_SECONDS = 30.0
"""Compiling is taken to last so long where this machine has compiled nothing yet."""
MOST_SAVED = 0.5
"""The largest share of a step that compiling is hoped to save. Where not even that would pay, it is not tried."""
WARM, TIMED = 3, 5
"""The steps before those that are timed, and the number of these."""


@dataclass(frozen=True)
class Speed:
    """Holds what was measured for one shape: seconds to compile, and milliseconds a step, plain and compiled."""

    compile_seconds: float
    plain_ms: float
    compiled_ms: float

    def pays(self, steps: int) -> bool:
        """Tells whether compiling is won back within so many steps."""
        return self.compile_seconds < (self.plain_ms - self.compiled_ms) / 1000 * steps


def pays(stepper: Stepper, ranks: int, turn: Turn) -> bool:
    """Decides whether to compile a training that is about to begin, on a GPU. Each timed step takes a turn.

    Copies of the training are timed, and only where its shape is new and compiling might pay. What does not compile,
    or has no memory for a copy, is not compiled.
    """
    device, steps = stepper.device, stepper.settings.steps
    if device == "cpu" or not can_compile(device):
        return False
    shape = _shape(stepper, ranks)
    place = cache() / "compiled" / f"{_key(shape)}.json"
    known = _read(place)
    if known is None:
        try:
            _, plain_ms = _timed(_copy(stepper, ranks, compiled=False), turn)
            if plain_ms * MOST_SAVED / 1000 * steps < _usual_seconds(place.parent):
                return False
            known = _measured(_copy(stepper, ranks, compiled=True), plain_ms, turn)
        except torch.OutOfMemoryError:
            return False
        with suppress(OutOfReach):  # a cache that cannot be written forgets
            files.write_json(place, {"shape": shape, **asdict(known)})
    return known.pays(steps)


def _copy(stepper: Stepper, ranks: int, compiled: bool) -> Stepper:
    """Returns the training from its start, with the share of one rank as its batch."""
    settings = stepper.settings
    share = -(-settings.batch // ranks)
    parts = min(settings.micro_batch, share) if settings.micro_batch else None
    found = stepper.anew(settings.model_copy(update={"batch": share, "micro_batch": parts}))
    found.execution = replace(stepper.execution, compiled=compiled)
    return found


def _measured(stepper: Stepper, plain_ms: float, turn: Turn) -> Speed:
    """Compiles and times; a model that cannot be compiled never pays."""
    try:
        seconds, compiled_ms = _timed(stepper, turn)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # noqa: BLE001  the compiler raises every class, and the plain step still works
        return Speed(0.0, plain_ms, plain_ms)
    return Speed(max(0.0, seconds - WARM * compiled_ms / 1000), plain_ms, compiled_ms)


def _timed(stepper: Stepper, turn: Turn) -> tuple[float, float]:
    """Returns the seconds of the first WARM steps together, and the median milliseconds of the next ones."""

    def seconds() -> float:
        with turn():
            started = time.perf_counter()
            stepper.take().item()  # waits for the device
            return time.perf_counter() - started

    first = sum(seconds() for _ in range(WARM))
    return first, 1000 * median(seconds() for _ in range(TIMED))


def _shape(stepper: Stepper, ranks: int) -> dict[str, Any]:
    """Returns all on which the speed depends, as JSON."""
    settings = stepper.settings
    return {
        "architecture": stepper.architecture.id,
        "head": stepper.task.head.kind,
        "vocabulary": stepper.task.vocabulary,
        "context": stepper.task.context,
        "batch": settings.batch,
        "micro_batch": settings.micro_batch,
        "optimiser": settings.optimiser,
        "recipe": settings.recipe,
        "bf16": stepper.execution.bf16,
        "ranks": ranks,
        "torch": torch.__version__,
        "backend": BACKEND,
        "device": torch.cuda.get_device_properties(torch.device(stepper.device)).name,
    }


def _key(shape: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:24]


def _read(place: Path) -> Speed | None:
    """Returns what is remembered; None for nothing, and for a damaged file."""
    try:
        told = files.read_json(place)
        return Speed(*(float(told[name]) for name in ("compile_seconds", "plain_ms", "compiled_ms")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _usual_seconds(folder: Path) -> float:
    """Returns the median time of what this machine has compiled so far."""
    known = [speed.compile_seconds for path in folder.glob("*.json") if (speed := _read(path))]
    return median(known) if known else USUAL_SECONDS
