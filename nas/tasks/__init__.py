"""What a model is trained for. `open_task(settings)` finds the data and checks it."""

from collections.abc import Callable
from typing import Any

from torch import nn

from nas import models
from nas.architecture import Architecture
from nas.task_settings import TaskSettings
from nas.tasks.base import Inputs, Split, Task
from nas.tasks.language_modelling import LanguageModelling
from nas.tasks.list_ops import ListOpsTask
from nas.tasks.masked_language_modelling import MaskedLanguageModelling
from nas.tasks.question_answering import QuestionAnswering
from nas.tasks.sentiment import Sentiment
from nas.tasks.spans import CopySpans, ReverseSpans
from nas.tasks.summarisation import Summarisation
from nas.tasks.synthetic import AssociativeRecall, SelectiveCopy
from nas.tasks.translation import Translation

__all__ = ["TASKS", "Inputs", "Split", "Task", "model_of", "open_task"]

TASKS: dict[str, Callable[[Any], Task]] = {
    "language_modelling": LanguageModelling,
    "masked_language_modelling": MaskedLanguageModelling,
    "copy_spans": CopySpans,
    "reverse_spans": ReverseSpans,
    "associative_recall": AssociativeRecall,
    "selective_copy": SelectiveCopy,
    "list_ops": ListOpsTask,
    "sentiment": Sentiment,
    "question_answering": QuestionAnswering,
    "translation": Translation,
    "summarisation": Summarisation,
}


def model_of(architecture: Architecture, task: Task) -> nn.Module:
    """The model of an architecture for that task. Raises UsageError when the family cannot learn it."""
    return models.build(architecture, vocabulary=task.vocabulary, context=task.context, head=task.head)


def open_task(settings: TaskSettings) -> Task:
    """The task of that kind with its data at hand. Raises DataError."""
    return TASKS[settings.kind](settings)
