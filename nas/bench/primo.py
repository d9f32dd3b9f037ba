"""Runs PriMO of NePS (neural-pipeline-search), which starts many short trainings and continues the promising ones.

PriMO proposes in a Python of its own (nas.bench.neps_server). The trial is ours: the same measurement under the same
lock, and the same trainer, which continues from its checkpoint where PriMO lengthens a training. PriMO has no dependent
parameters, so it is given every parameter of the space at once; those that an architecture does not have are ignored.
"""

import json
import random
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from nas.architecture import Architecture
from nas.errors import NasError
from nas.measure import DeviceLock
from nas.running.measuring import measure_alone
from nas.running.placement import place
from nas.running.proposer import key_of, seed_of
from nas.settings.study_file import StudyFile
from nas.settings.task_settings import TaskSettings
from nas.space.architecture_space import Space
from nas.tasks import Task, open_task
from nas.training.trainer import Diverged, Trainer, TrainingInterrupted, rung_steps

LEARNING_RATE = "learning_rate"
SERVER = Path(__file__).with_name("neps_server.py")
DRAWS = 5_000
"""The draws of the space in which its parameters are found."""


class Server:
    """Talks to PriMO in its own process, which ends with this one."""

    def __init__(self, python: str, job: Mapping[str, Any]) -> None:
        """Raises NasError where that Python has no NePS."""
        self.process = subprocess.Popen([python, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.rungs: list[int] = self.say(job)["rungs"]

    def say(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a line and returns the answer. Raises NasError when the process has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(line) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and says nothing
        told = self.process.stdout.readline()
        if not told:
            self.close()
            raise NasError("PriMO ended", help="--neps PYTHON   a Python that has neural-pipeline-search")
        found: dict[str, Any] = json.loads(told)
        return found

    def close(self) -> None:
        """Ends the process."""
        with self.process:  # closes its pipes, and waits
            self.process.kill()


def run(
    file: StudyFile, folder: Path, started: float, until: float, trials: int | None, *, python: str
) -> list[dict[str, Any]]:
    """Returns the finished trials (see nas.bench.launches) of a run that ends at `until`; both are Unix seconds."""
    placement, parameters = place(file), parameters_of(file)
    rungs = rung_steps(file.train)
    job = {"parameters": parameters, "least": rungs[0], "most": rungs[-1], "seed": file.search.seed}
    server, finished, asked = Server(python, job), list[dict[str, Any]](), 0
    goals = {objective.metric: objective.goal for objective in file.objective_list()}
    running: dict[Future[dict[str, Any] | None], dict[str, Any]] = {}
    context = get_context("spawn")
    try:
        with ProcessPoolExecutor(placement.slots, context) as pool:
            while time.time() < until and not (trials and asked >= trials and not running):
                while len(running) < placement.slots and not (trials and asked >= trials):
                    proposal = server.say({"ask": True})
                    asked += 1
                    work = (proposal, parameters, server.rungs, file, placement.device, folder, until)
                    running[pool.submit(train, *work)] = proposal
                ended, _ = wait(running, timeout=max(0.0, until - time.time()), return_when=FIRST_COMPLETED)
                for call in [call for call in running if call in ended]:
                    proposal, told = running.pop(call), call.result()
                    seconds = time.time() - started
                    server.say({"tell": proposal["id"], "values": told and _minimised(told["metrics"], goals)})
                    if told is not None and proposal["steps"] == rungs[-1]:
                        finished.append({"seconds": seconds, **told})
    finally:
        server.close()
    return finished


def _minimised(metrics: Mapping[str, float], goals: Mapping[str, str]) -> list[float]:
    return [metrics[name] if goal == "min" else -metrics[name] for name, goal in goals.items()]


def parameters_of(file: StudyFile) -> dict[str, list[Any]]:
    """Returns every parameter that an architecture of the space may have, with its options, as draws find them."""
    chooser = _Recorder(random.Random(0))
    space = Space(file.spaces())
    for _ in range(DRAWS):
        space.suggest(chooser)
    if len(rates := list(file.train.learning_rate or ())) > 1:
        chooser.found[LEARNING_RATE] = rates
    return chooser.found


class _Recorder:
    """Draws choices, and notes what was on offer under each name."""

    def __init__(self, generator: random.Random) -> None:
        self.generator, self.found = generator, dict[str, list[Any]]()

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        self.found.setdefault(name, list(choices))
        return self.generator.choice(choices)


class _Chosen:
    """Chooses by the places that a configuration holds; the first option of what it lacks."""

    def __init__(self, config: Mapping[str, int]) -> None:
        self.config = config

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        return choices[self.config.get(name, 0)]


def train(
    proposal: Mapping[str, Any],
    parameters: Mapping[str, Sequence[Any]],
    rungs: Sequence[int],
    file: StudyFile,
    device: str,
    folder: Path,
    until: float,
) -> dict[str, Any] | None:
    """Trains up to the proposal's steps, from the checkpoint where there is one.

    Returns architecture, learning rate and metrics; None where training diverged or the time was up.
    """
    torch.set_num_threads(max(1, int(file.resources.cpus_per_trial)))
    config, task, lock = proposal["config"], _task(file.task), DeviceLock(device)
    architecture = Space(file.spaces()).suggest(_Chosen(config))
    rate = parameters[LEARNING_RATE][config[LEARNING_RATE]] if LEARNING_RATE in parameters else None
    steps, name = file.train.steps, key_of(architecture.id, rate).replace("@", "-")
    metrics = _measured(architecture, task, file, device, lock, folder / f"{name}.json")
    trainer = Trainer(
        architecture,
        task,
        file.train.model_copy(update={"rungs": tuple(rung / steps for rung in rungs)}),
        seed=seed_of(file.search.seed, architecture.id),
        device=device,
        checkpoint=folder / f"{name}.safetensors",
        learning_rate=rate,
        lock=lock,
        should_stop=lambda: time.time() > until,
    )
    try:
        while trainer.step < proposal["steps"]:
            trainer.run_to_next_rung()
    except (Diverged, TrainingInterrupted):
        return None
    told = {**metrics, **trainer.rungs[-1].metrics}
    return {"architecture": architecture.canonical(), "learning_rate": rate, "metrics": told}


def _measured(
    architecture: Architecture, task: Task, file: StudyFile, device: str, lock: DeviceLock, path: Path
) -> dict[str, float]:
    """Measures an architecture, or reads what was measured before its training was continued."""
    if path.exists():
        stored: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return stored
    metrics = dict(measure_alone(architecture, task, file, device, lock))
    path.write_text(json.dumps(metrics), encoding="utf-8")
    return metrics


@cache
def _task(settings: TaskSettings) -> Task:
    """Opens the task once a process."""
    return open_task(settings)
