"""Trains one architecture by itself to the last step, tests it, and keeps it as a folder with its weights."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nas import paired
from nas.results import Rung
from nas.tasks.base import WHOLE, Scores
from nas.training.model_folder import save_weights
from nas.training.trainer import Trainer, TrainingInterrupted
from nas.training.training_folder import CHECKPOINT

Observer = Callable[[dict[str, Any]], None]


def train_and_test(
    trainer: Trainer,
    folder: Path,
    identity: Mapping[str, Any],
    observer: Observer,
    should_stop: Callable[[], bool],
) -> None:
    """Trains to the last step, tests, and writes the folder. `identity` is what metrics.json says of the training.

    The observer receives `begun`, every `step`, every `rung`, then `interrupted` or `trained`. Raises
    TrainingInterrupted, with all saved, soon after `should_stop` says so; and Diverged.
    """
    steps, task = trainer.settings.steps, trainer.task

    def before_step() -> bool:
        observer({"type": "step", "step": trainer.step, "steps": steps})
        return should_stop()

    trainer.should_stop = before_step
    if trainer.anew:
        observer({"type": "restarted", "why": trainer.anew})
    observer({"type": "begun", "step": trainer.step, "steps": steps, "folder": str(folder)})
    try:
        while not trainer.done:
            observer(_told(trainer.run_to_next_rung(), steps))
    except TrainingInterrupted:
        observer({"type": "interrupted", "step": trainer.step, "steps": steps})
        raise
    observer({"type": "waiting", "for": "test", "since": time.time()})
    tested = task.examine(trainer.model, "test", WHOLE, device=trainer.device, turn=trainer.turn)
    metrics = {**trainer.rungs[-1].metrics, **tested.metrics}
    save_weights(
        folder,
        trainer.model,
        trainer.architecture,
        coder=task.coder,
        context=task.context,
        head=task.head,
        metrics={**identity, "metrics": metrics, "differences": _differences(tested.scores, task.guesses("test"))},
    )
    (folder / CHECKPOINT).unlink()
    observer({"type": "trained", "folder": str(folder), "metrics": metrics})


def _told(rung: Rung, steps: int) -> dict[str, Any]:
    return {"type": "rung", "step": rung.step, "steps": steps, "seconds": rung.seconds, "metrics": dict(rung.metrics)}


def _differences(scores: Scores, guesses: Mapping[str, Scores]) -> dict[str, dict[str, dict[str, float]]]:
    """Returns floor → metric → how much better the model does on the same examples (nas.paired)."""
    return {
        name: {metric: asdict(paired.difference(scores[metric], values)) for metric, values in guessed.items()}
        for name, guessed in guesses.items()
    }
