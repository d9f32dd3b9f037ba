"""Defines what a model is trained for. `open_task(settings)` finds the data and checks it."""

from importlib import import_module

from torch import nn

from nas import models
from nas.architecture import Architecture
from nas.data.text_census import Progress, silent
from nas.settings.task_settings import TASK_KINDS, TableTask, TaskSettings, TextTask
from nas.tasks.base import Floors, Inputs, Split, Task

__all__ = ["Inputs", "Split", "Task", "floors_of", "model_of", "open_task"]


def model_of(architecture: Architecture, task: Task, context: int | None = None) -> nn.Module:
    """Builds the model of an architecture for that task, by default for its context. Raises UsageError when the family
    cannot learn it.
    """
    return models.build(architecture, vocabulary=task.vocabulary, context=context or task.context, head=task.head)


def floors_of(task: Task, evaluation_tokens: int) -> dict[str, Floors]:
    """Scores the floors that are stored beside trials.

    They are scored on the validation examples on which trials are scored, and on the whole test split.
    """
    return {"val": task.floors("val", evaluation_tokens), "test": task.floors("test")}


def open_task(settings: TaskSettings, progress: Progress = silent) -> Task:
    """Opens the task of that kind and reads its data. Raises DataError.

    `progress` is told how far a text or a table is prepared, where it is not yet.
    """
    module, name = TASK_KINDS[settings.kind].module.split(":")
    kind = getattr(import_module(f"nas.tasks.{module}"), name)
    task: Task = kind(settings, progress) if isinstance(settings, TextTask | TableTask) else kind(settings)
    return task
