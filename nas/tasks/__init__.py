"""What a model is trained for. `open_task(settings)` finds the data and checks it."""

from collections.abc import Callable

from nas.study_file import TaskSettings
from nas.tasks.base import Split, Task
from nas.tasks.language_modelling import LanguageModelling

__all__ = ["TASKS", "Split", "Task", "open_task"]

TASKS: dict[str, Callable[[TaskSettings], Task]] = {
    "language_modelling": LanguageModelling,
}


def open_task(settings: TaskSettings) -> Task:
    """The task of that kind with its data at hand. Raises DataError."""
    return TASKS[settings.kind](settings)
