"""Keeps the files of trials: in a study's own folder, in one that machines share, or at a URL that pyarrow.fs knows.

    folder = RunFolder(place)                 # plain text, so that it travels to workers
    files = folder.trial(3)                   # PLACE/trials/3
    files.path / name                         # write a file here ...
    files.publish(name)                       # ... then others see it: it is there whole, or not at all
    files.fetch(name, most_bytes)             # a local path to read it from
    folder.retraining("3-s17-200")            # PLACE/retrained/3-s17-200, where a training confirms trial 3

Files that strangers may have written are bounded and never followed as links; only names of our own are deleted.
"""

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from nas import bounds, files, remote_files
from nas.errors import OutOfReach
from nas.folders import absolute, names_in
from nas.remote_files import RemoteFiles, again, refuse_larger

MARK = "nas-folder.json"
"""The file in a shared folder that says which study it belongs to."""
MOST_MARK_BYTES = 4_096
MOST_BYTES = 2**37
"""The most bytes of a file with weights: those of the largest architecture that can be described."""
NUMBER = re.compile(r"0|[1-9]\d{0,8}")
TRIALS, RETRAINED = "trials", "retrained"
"""The folders with the files of trials, and with those of trainings that confirm a trial."""
RETRAINING = re.compile(rf"(?P<trial>{NUMBER.pattern})-s\d{{1,19}}-\d{{1,13}}")

FIRST_CHECKPOINT = "rung.safetensors"
"""The name of every checkpoint in studies of version 0.1."""
CHECKPOINT = re.compile(r"rung-(?P<step>\d{1,10})\.a(?P<attempt>\d{1,7})\.safetensors")


class TrialFiles(Protocol):
    """Gives the files of one trial."""

    place: str
    """The place where the files stay, for people."""

    @property
    def path(self) -> Path:
        """Returns the folder on this machine to write into; it may not exist yet."""

    def require(self) -> None:
        """Raises OutOfReach where the place has vanished, before anything is written there."""

    def names(self) -> list[str]:
        """Returns the sorted names of the files there, in folders of the trial's folder too (`a/b`)."""

    def fetch(self, name: str, most_bytes: int) -> Path:
        """Returns a path on this machine where the file can be read.

        Raises FileNotFoundError, and ValueError where it is larger, a link, or no ordinary file.
        """

    def publish(self, name: str) -> None:
        """Puts a file that was written into `path` in its place. Raises OutOfReach."""

    def delete(self, names: Collection[str]) -> None:
        """Deletes the files of these names, and copies of them that were never finished. Raises OutOfReach."""

    def delete_all(self) -> None:
        """Deletes everything that the trial has left. Raises OutOfReach."""


@dataclass(frozen=True)
class RunFolder:
    """Names the place of a study's trials: the path of a folder, or a URL. `trials/NUMBER` is in it.

    `identity` is what the mark of a shared folder holds; empty for the study's own folder, which has no mark.
    """

    place: str
    identity: str = ""

    @property
    def remote(self) -> bool:
        """Tells whether it is a URL."""
        return "://" in self.place

    def trial(self, number: int) -> TrialFiles:
        """Returns the files of a trial. Raises Conflict where a link would lead out of the folder."""
        return self._files(TRIALS, str(number))

    def retraining(self, name: str) -> TrialFiles:
        """Returns the files of a training that confirms a trial (`retraining_name`). Raises as `trial`."""
        return self._files(RETRAINED, name)

    def _files(self, kind: str, name: str) -> TrialFiles:
        if self.remote:
            return RemoteFiles(self.place, kind, name)
        return LocalFiles(Path(self.place), kind, name, self.require)

    def numbers(self) -> list[int]:
        """Returns the sorted numbers of the trials that have left something. Raises OutOfReach."""
        return sorted(int(name) for name in self._names(TRIALS) if NUMBER.fullmatch(name))

    def retrainings(self) -> list[str]:
        """Returns the sorted names of the trainings that confirm trials and have left something. Raises OutOfReach."""
        return sorted(name for name in self._names(RETRAINED) if RETRAINING.fullmatch(name))

    def _names(self, kind: str) -> list[str]:
        if self.remote:
            return remote_files.folders(self.place, kind)
        return names_in(files.refuse_links(Path(self.place), kind))

    def mark(self) -> dict[str, Any] | None:
        """Returns what the mark of the folder holds; None where there is none.

        Raises OutOfReach where the place cannot be read, and ValueError for a mark that is none of ours.
        """
        if self.remote:
            found = remote_files.read(self.place, MARK, MOST_MARK_BYTES)
        else:
            found = _read(files.refuse_links(Path(self.place), MARK))
        if found is None:
            return None
        held = files.parse_json(found.decode("utf-8"))
        if not isinstance(held, dict) or not all(isinstance(value, str) for value in held.values()):
            raise ValueError("it is no mark of nas")
        return held

    def leave_mark(self, study: str) -> None:
        """Marks the folder as this study's. Raises OutOfReach where that fails, and Conflict for another mark."""
        text = json.dumps({"study": study, "id": self.identity}) + "\n"
        if self.remote:
            remote_files.write(self.place, MARK, text.encode())
        else:
            files.create(files.refuse_links(Path(self.place), MARK), lambda path: path.write_text(text))

    def drop_mark(self) -> None:
        """Deletes the mark, and the folder where nothing else is in it. Raises OutOfReach."""
        if self.remote:
            remote_files.delete(self.place, MARK)
        else:
            for kind in (TRIALS, RETRAINED):
                files.delete_own(Path(self.place, kind), ())
            files.delete_own(Path(self.place), [MARK])

    def require(self) -> None:
        """Raises OutOfReach where a shared folder is not there any more, also after some seconds.

        The folder in which it was mounted may stand in its place, so its mark is looked for.
        """
        if self.identity:
            again(self._require)

    def _require(self) -> None:
        try:
            mark = self.mark()
        except ValueError as error:
            raise _gone(self.place, str(error)) from error
        if mark is None or mark.get("id") != self.identity:
            raise _gone(self.place, "it holds no mark of this study" if mark is None else "it is another study's")


def copy(source: TrialFiles, target: TrialFiles) -> None:
    """Copies the files of a trial. Raises OutOfReach, and ValueError where more are there than a trial can have."""
    for name in source.names():
        path = source.fetch(name, MOST_BYTES)
        files.replace(target.path / name, partial(shutil.copyfile, path))
        target.publish(name)


class LocalFiles:
    """Reads and writes the files of one trial where they stay: on this machine's disk, or in a folder mounted there.

    `vanished` raises OutOfReach when a shared folder is not there any more.
    """

    def __init__(self, folder: Path, kind: str, name: str, vanished: Callable[[], None] = lambda: None) -> None:
        self.folder, self.kind, self.name, self._vanished = folder, kind, name, vanished
        self.path = self._checked()
        self.place = str(self.path)

    def require(self) -> None:
        self._checked()
        self._vanished()

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.path)) for path in regular(self.path))

    def fetch(self, name: str, most_bytes: int) -> Path:
        path = self.path / name
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path} is a link, or no ordinary file")
        refuse_larger(str(path), found.st_size, most_bytes)
        return path

    def publish(self, name: str) -> None:
        """Does nothing: the file was written in its place."""

    def delete(self, names: Collection[str]) -> None:
        if self._checked().is_dir():
            files.delete_own(self.path, names)

    def delete_all(self) -> None:
        files.delete_folder(self._checked())

    def _checked(self) -> Path:
        return files.refuse_links(self.folder, self.kind, self.name)


def retraining_name(number: int, seed: int, steps: int) -> str:
    """Returns the name of the folder of a training that confirms a trial."""
    return f"{number}-s{seed}-{steps}"


def checkpoint_name(step: int, attempt: int) -> str:
    """Returns the name of a checkpoint. It names the attempt, so that a worker of an earlier one overwrites nothing."""
    return f"rung-{step}.a{attempt}.safetensors"


def checkpoints(names: Iterable[str]) -> list[str]:
    """Returns the checkpoints among these names, the furthest first; of equal steps, the newest attempt first.

    The one of version 0.1, whose step its name does not tell, comes last.
    """
    return sorted((name for name in names if is_checkpoint(name)), key=_progress, reverse=True)


def is_checkpoint(name: str) -> bool:
    return name == FIRST_CHECKPOINT or CHECKPOINT.fullmatch(name) is not None


def attempt_of(checkpoint: str) -> int:
    """Returns the attempt that wrote a checkpoint; 0 for that of version 0.1."""
    return _progress(checkpoint)[1]


def _progress(checkpoint: str) -> tuple[int, int]:
    found = CHECKPOINT.fullmatch(checkpoint)
    return (int(found["step"]), int(found["attempt"])) if found else (-1, 0)


def written_as(name: str) -> str:
    """Returns the name that a file gets once it is finished: `.NAME.PROCESS.NONCE.tmp` is an unfinished NAME."""
    if not (name.startswith(".") and name.endswith(files.TEMPORARY)):
        return name
    return name.removesuffix(files.TEMPORARY)[1:].rsplit(".", 2)[0]


def regular(folder: Path) -> list[Path]:
    """Returns the ordinary files in a folder and in folders of it, at most bounds.FILES. Links are not followed."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            with suppress(OSError):
                if stat.S_ISREG(path.lstat().st_mode):
                    found.append(path)
            if len(found) >= bounds.FILES:
                return found
    return found


def _read(path: Path) -> bytes | None:
    try:
        return files.read_bytes(absolute(path), MOST_MARK_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _gone(str(path), str(error)) from error


def _gone(place: str, detail: str) -> OutOfReach:
    return OutOfReach(
        "the folder of the study's trials cannot be reached",
        code="folder",
        where=place,
        detail=detail,
        help="mount it again, then: nas resume",
    )
