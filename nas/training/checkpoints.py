"""Names the checkpoints of a training: one file that is replaced, or for a trial one for each rung and attempt."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from nas.errors import Conflict
from nas.trial_files import TrialFiles, attempt_of, checkpoint_name, checkpoints


class Checkpoints(Protocol):
    """Gives a trainer the checkpoints to continue from, and places for new ones."""

    strict: bool
    """True where a checkpoint of another training is an error; otherwise training starts anew."""
    newest: str
    """The name of the checkpoint that holds the training's state; empty where there is none."""

    def names(self) -> list[str]:
        """Returns the names of what may be continued, the furthest first."""

    def fetch(self, name: str, most_bytes: int) -> Path:
        """Returns the file. Raises FileNotFoundError, and ValueError for one that is too large or a link."""

    def continued(self, name: str) -> None:
        """Takes in that the training has continued from this one, so that the others are of no use."""

    def path(self, step: int) -> Path:
        """Returns the place for the checkpoint of a step. Raises OutOfReach where it is gone."""

    def written(self, step: int) -> None:
        """Takes in that the checkpoint of that step is written. Raises OutOfReach where it cannot be kept."""


class OneCheckpoint:
    """Keeps one file, which each checkpoint replaces."""

    strict = True

    def __init__(self, file: Path) -> None:
        self.file, self.newest = file, ""

    def names(self) -> list[str]:
        return [self.file.name]

    def fetch(self, name: str, most_bytes: int) -> Path:
        return self.file

    def continued(self, name: str) -> None:
        self.newest = name

    def path(self, step: int) -> Path:
        return self.file

    def written(self, step: int) -> None:
        self.newest = self.file.name


class TrialCheckpoints:
    """Keeps `rung-STEP.aATTEMPT.safetensors` in a trial's files.

    An attempt reads what earlier ones have left, and deletes what it has passed. It never touches the checkpoints of
    later attempts: a worker that was frozen while another took its trial over destroys nothing when it wakes up.
    """

    strict = False

    def __init__(self, files: TrialFiles, attempt: int) -> None:
        self.files, self.attempt, self.newest = files, attempt, ""
        self._known: set[str] = set()

    def names(self) -> list[str]:
        found = checkpoints(self.files.names())
        self._known = {name for name in found if attempt_of(name) <= self.attempt}
        return found

    def fetch(self, name: str, most_bytes: int) -> Path:
        return self.files.fetch(name, most_bytes)

    def continued(self, name: str) -> None:
        self.newest = name
        self._drop_others()

    def path(self, step: int) -> Path:
        self.files.require()
        return self.files.path / checkpoint_name(step, self.attempt)

    def written(self, step: int) -> None:
        self.newest = checkpoint_name(step, self.attempt)
        self.files.publish(self.newest)
        self._known.add(self.newest)
        self._drop_others()

    def _drop_others(self) -> None:
        if passed := self._known - {self.newest}:
            self.files.delete(passed)
            self._known = {self.newest}


def of_another_training(path: Path, stored: Mapping[str, Any], now: Mapping[str, Any]) -> Conflict:
    """Returns the error for a checkpoint of another identity, which names all that differs."""
    differing = [key for key in now if (key in stored or not stored) and stored.get(key) != now[key]]
    return Conflict(
        f"the checkpoint belongs to another training: {', '.join(differing)} differ",
        code="checkpoint-conflict",
        where=str(path),
        detail="\n".join(f"{key}: stored {stored.get(key)}, now {now[key]}" for key in differing),
        help="train with what is stored, or delete the checkpoint to start again",
    )
