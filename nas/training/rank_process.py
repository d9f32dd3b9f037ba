"""Runs one further rank of a data-parallel training, in a process of its own that obeys the leading one.

The leading process writes commands to standard input, as JSON lines (nas.training.data_parallel). When that pipe
closes, the leading process has ended, and this one ends at once, even in the midst of a step. It holds nothing that is
to be saved. Signals that stop a search are for the leading process, which first saves.
"""

import json
import os
import queue
import shutil
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

import torch
from pydantic import TypeAdapter

from nas import files
from nas.architecture import Architecture
from nas.settings.study_settings import TrainSettings
from nas.settings.task_settings import TaskSettings
from nas.surroundings import STOP_SIGNALS
from nas.tasks import open_task
from nas.training.data_parallel import READY, RankSettings, failure_file
from nas.training.execution import Execution
from nas.training.ranks import ProcessGroup, RankLost
from nas.training.stepper import Stepper


def main(settings: RankSettings) -> NoReturn:
    """Obeys until the leading process ends. An error is left for it in a file."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    folder = Path(settings.folder)
    commands = _commands(folder)
    try:
        _obey(settings, commands)
    except RankLost:
        pass  # the leading process looks for the cause itself
    except Exception as error:  # noqa: BLE001  any error is the leading process's to report
        # The CPU's allocator has no exception of its own.
        out_of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
        told = {"oom": out_of_memory, "text": "".join(traceback.format_exception(error))}
        files.write_json(failure_file(folder, settings.rank), told)
    os._exit(1)


def _obey(settings: RankSettings, commands: "queue.Queue[dict[str, Any]]") -> NoReturn:
    torch.set_num_threads(settings.threads)
    device = torch.device(settings.device)
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    ranks = ProcessGroup(Path(settings.folder), settings.rank, settings.ranks, device)
    task = open_task(TypeAdapter(TaskSettings).validate_python(settings.task))
    stepper: Stepper | None = None
    while True:
        match commands.get():
            case {"begin": training}:
                stepper = None  # its memory is free before the next one takes its own
                stepper = Stepper(
                    Architecture.model_validate(training["architecture"]),
                    task,
                    TrainSettings.model_validate(training["settings"]),
                    seed=training["seed"],
                    device=settings.device,
                    learning_rate=training["learning_rate"],
                )
                stepper.execution = Execution.from_stored(training["execution"])
                stepper.join(ranks)
            case {"steps": steps} if stepper is not None:
                for _ in range(steps):
                    stepper.take()


def _commands(folder: Path) -> "queue.Queue[dict[str, Any]]":
    """Returns the commands as they come. Ends this process when there can be no more."""
    found: queue.Queue[dict[str, Any]] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            found.put(json.loads(line))
        shutil.rmtree(folder, ignore_errors=True)  # left behind where the leading process was killed
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    return found


if __name__ == "__main__":
    main(RankSettings(**json.loads(sys.argv[1])))
