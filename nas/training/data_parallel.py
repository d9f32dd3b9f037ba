"""Leads a data-parallel training: starts the other ranks, tells them what to do, and ends them.

Rank 0 is this process. It alone decides (when to stop, whether training diverged), evaluates and saves; the others do
as told, and hold nothing that is to be saved. So they may be killed at any time.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nas import files
from nas.settings.task_settings import TaskSettings
from nas.surroundings import shielded
from nas.training.ranks import PATIENCE_SECONDS, ProcessGroup, RankLost

READY = "ready"
LOOK_SECONDS, CAUSE_SECONDS = 0.2, 5.0
"""Seconds: a watch looks so often whether all ranks live, and the cause of a lost one is awaited so long."""


@dataclass(frozen=True)
class RankSettings:
    """Holds what a rank's process has to know; `task` is the table of the study file."""

    rank: int
    ranks: int
    device: str
    threads: int
    folder: str
    task: dict[str, Any]


def failure_file(folder: Path, rank: int) -> Path:
    """Returns the file in which a rank leaves its error."""
    return folder / f"failure-{rank}.json"


class DataParallel:
    """Holds the other ranks of one training after another, so that each process imports and opens its data once.

    `devices` names the device of every rank, rank 0's first. Each rank's process uses that many threads.
    """

    def __init__(self, task: TaskSettings, devices: Sequence[str], threads: int = 1) -> None:
        self.task, self.devices, self.threads = task, tuple(devices), threads
        self._processes: list[subprocess.Popen[str]] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._group: ProcessGroup | None = None

    def begin(self, training: Mapping[str, Any]) -> ProcessGroup:
        """Has all ranks build this training: {architecture, settings, seed, learning_rate, execution}. Raises RankLost.

        Every rank's Stepper is then to join the group that is returned.
        """
        if self._group is None:
            self._start()
        self._tell({"begin": dict(training)})
        assert self._group is not None
        return self._group

    def steps(self, count: int) -> None:
        """Has the other ranks take so many steps, along with this process. Raises RankLost."""
        self._tell({"steps": count})

    @contextmanager
    def led(self) -> Iterator[None]:
        """Surrounds what all ranks do together. Any error in it ends the other ranks, which would wait in vain.

        Raises RankLost where a rank is lost, and MemoryError where one has run out of memory.
        """
        try:
            yield
            if self._is_one_dead():
                raise RankLost("a process of this training has ended")
        except BaseException as error:
            # A wait on a GPU for a lost rank ends in some error of CUDA or NCCL.
            if isinstance(error, RankLost) or (isinstance(error, RuntimeError) and self._is_one_dead()):
                raise self._failure() from error
            self.close()
            raise

    def _is_one_dead(self) -> bool:
        return any(process.poll() is not None for process in self._processes)

    def _failure(self) -> Exception:
        """Returns the error for a rank that is lost: what that rank told, or how its process ended. Ends all ranks.

        MemoryError stands for a rank that ran out of memory.
        """
        deadline = time.monotonic() + CAUSE_SECONDS
        while time.monotonic() < deadline and not self._is_one_dead():
            time.sleep(LOOK_SECONDS / 10)
        try:
            return self._cause()
        finally:
            self.close()

    def close(self) -> None:
        """Ends the other ranks at once."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # what was never written is of no use any more
                    if pipe:
                        pipe.close()
        self._processes, self._group = [], None
        if self._folder:
            self._folder.cleanup()
            self._folder = None

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nas-ranks-", ignore_cleanup_errors=True)
        for rank in range(1, len(self.devices)):
            self._processes.append(self._launched(rank, self._folder.name))
        for process in self._processes:
            assert process.stdout
            if process.stdout.readline().strip() != READY:
                raise RankLost("a process of this training did not start")
        place = torch.device(self.devices[0])
        self._group = ProcessGroup(Path(self._folder.name), 0, len(self.devices), place)
        if place.type == "cuda":
            threading.Thread(target=_watch, args=(list(self._processes), self._group), daemon=True).start()

    def _launched(self, rank: int, folder: str) -> subprocess.Popen[str]:
        task = self.task.model_dump(mode="json")
        settings = RankSettings(rank, len(self.devices), self.devices[rank], self.threads, folder, task)
        package = str(Path(files.__file__).parents[1])
        paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        with (Path(folder) / f"said-{rank}.txt").open("w") as said, shielded():
            return subprocess.Popen(
                [sys.executable, "-m", "nas.training.rank_process", json.dumps(asdict(settings))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env={**os.environ, "PYTHONPATH": paths},
                start_new_session=True,
            )

    def _tell(self, command: Mapping[str, Any]) -> None:
        for process in self._processes:
            assert process.stdin
            try:
                process.stdin.write(json.dumps(command) + "\n")
                process.stdin.flush()
            except OSError as error:
                raise RankLost("a process of this training has ended") from error

    def _cause(self) -> Exception:
        """Looks for the error that a rank left, or else for what its process said last."""
        assert self._folder
        folder = Path(self._folder.name)
        for rank, process in enumerate(self._processes, start=1):
            if process.poll() is None:
                continue
            with suppress(OSError, ValueError):
                told = files.read_json(failure_file(folder, rank))
                if told["oom"]:
                    return MemoryError(f"rank {rank} of {len(self.devices)}: {_last_line(told['text'])}")
                return RankLost(f"rank {rank} of {len(self.devices)} failed", detail=told["text"])
            with suppress(OSError):
                said = (folder / f"said-{rank}.txt").read_text(errors="replace")
                text = f"the process of rank {rank} of {len(self.devices)} ended with {process.returncode}"
                return RankLost(text, detail=_last_line(said))
        return RankLost("a process of this training does not answer", detail=f"within {PATIENCE_SECONDS:g} s")


def _watch(processes: Sequence[subprocess.Popen[str]], group: ProcessGroup) -> None:
    """Wakes this process from a wait on the GPU for a rank that has ended; gloo notices by itself."""
    while all(process.poll() is None for process in processes):
        time.sleep(LOOK_SECONDS)
    group.abort()


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
