"""Reads `[trial]`, a training of your own in a study file, and checks which keys apply to a space of parameters."""

import re
from collections.abc import Set
from pathlib import Path

from pydantic import Field, PrivateAttr, field_validator

from nas.errors import InvalidStudyFile
from nas.folders import absolute
from nas.toml_table import Table

ARCHITECTURES_ALONE = {
    "family": "a family of models",
    "task": "a task that is built in",
    "measure": "a workload that is timed",
    "targets": "ways to run a model",
}
OWN_TRAIN_KEYS = ("steps", "rungs", "time_limit")
"""A body in a space of parameters receives these keys of [train]."""


class TrialSettings(Table):
    """Names the function that runs a trial in place of the built-in training."""

    body: str = Field(max_length=200)
    _beside: Path | None = PrivateAttr(default=None)

    @field_validator("body")
    @classmethod
    def _names_a_function(cls, body: str) -> str:
        if not re.fullmatch(r"[\w.]+:[\w.<>]+", body):
            raise ValueError('expected module:function, as in "digits_training:train"')
        return body

    @property
    def beside(self) -> Path | None:
        """Returns the folder of the study file. None for stored settings, which never run code."""
        return self._beside

    def read_from(self, folder: Path) -> None:
        """Records that a user gave the file, and its folder: modules are looked for there first."""
        self._beside = absolute(folder)


def check_parameter_study(given: Set[str], train: Set[str]) -> None:
    """Raises InvalidStudyFile for keys that a space of parameters cannot use: those `given`, and those of `train`."""
    for key, what in ARCHITECTURES_ALONE.items():
        if key in given:
            text = f"a space of parameters has no [{key}]: it is {what}"
            raise InvalidStudyFile(text, code="no-architecture", where=key, help="leave it out")
    for key in sorted(train - set(OWN_TRAIN_KEYS)):
        raise InvalidStudyFile(
            f"'train.{key}' belongs to the built-in training",
            code="no-architecture",
            where=f"train.{key}",
            help=f"make it one of [space.parameters]; [train] has {', '.join(OWN_TRAIN_KEYS)}",
        )
