"""Works out the recipe of `nas train`: the study's own settings, data and learning rate, with the changes of -s."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas.errors import Conflict, InvalidStudyFile, UsageError
from nas.results import TrialResult
from nas.settings import study_file
from nas.settings.study_file import StudyFile
from nas.tasks import Task, open_task
from nas.training.stepper import only_rate

KEPT = {"train.steps": "use --steps", "train.time_limit": "there is none here: Ctrl-C saves at any time"}
"""The keys of [train] that -s cannot change, and what to do instead."""


@dataclass(frozen=True)
class Recipe:
    """Holds the recipe of one training.

    `file` holds its settings; `changed` holds what differs from the search besides the steps, by key.
    """

    file: StudyFile
    learning_rate: float | None
    changed: dict[str, Any]

    @property
    def steps(self) -> int:
        return self.file.train.steps

    @property
    def evaluation_tokens(self) -> int:
        return self.file.train.evaluation_tokens

    def folder_name(self, trial: int, seed: int) -> str:
        """Names the folder, for example 8-s0-4000-learning_rate=0.02."""
        told = (f"{key}={value}".replace("/", "_") for key, value in self.changed.items())
        return "-".join((str(trial), f"s{seed}", str(self.steps), *told))


def recipe_of(searched: StudyFile, trial: TrialResult, steps: int | None, overrides: Sequence[str]) -> Recipe:
    """Makes the recipe, with the trial's learning rate unless that is changed. It lifts the time limit, which protects
    a search.

    Raises UsageError.
    """
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in KEPT:
            raise UsageError(f"'{key}' cannot be overridden", where="overrides", help=KEPT[key])
        if not key.startswith("train.") and key != "task.split":
            text = f"'{key}' cannot be changed: a training may change the keys of [train], and task.split"
            raise UsageError(text, where="overrides", help="for example -s train.learning_rate=0.01")
    try:
        file = study_file.parse(searched.to_toml(), overrides)
    except InvalidStudyFile as error:
        raise UsageError(error.message, where="overrides", help=error.help) from None
    settings, first = file.train, searched.train
    rate = trial.learning_rate if settings.learning_rate == first.learning_rate else only_rate(settings)
    update: dict[str, Any] = {"steps": steps or first.steps, "time_limit": None}
    if rate == trial.learning_rate:
        update["learning_rate"] = first.learning_rate
    file = file.model_copy(update={"train": settings.model_copy(update=update)})
    now, then = _compared(file, rate), _compared(searched, trial.learning_rate)
    return Recipe(file, rate, {key: value for key, value in now.items() if value != then[key]})


def _compared(file: StudyFile, learning_rate: float | None) -> dict[str, Any]:
    apart = {"steps", "time_limit", "learning_rate"}
    settings = file.train.model_dump(mode="json", exclude=apart)
    return file.task.model_dump(mode="json") | settings | {"learning_rate": learning_rate}


def same_task(study: str, file: StudyFile, data: Mapping[str, Any]) -> Task:
    """Opens the file's task. Raises Conflict when its data is not the data of the study."""
    task = open_task(file.task)
    now, then = task.describe()["sha256"], data["sha256"]
    if now != then:
        raise Conflict(
            f"the data of study '{study}' has changed",
            code="data-changed",
            where="task.corpus",
            detail=f"stored sha256 {then[:12]}   now {now[:12]}",
            help="bring the former text back, or search again with the new one",
        )
    return task
