"""Loads the machine for the latency benchmark: with trainings that take the lock, or with programs that do not."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event

import torch

from nas.architecture import Architecture
from nas.measure import DeviceLock
from nas.settings.study_file import StudyFile
from nas.tasks import open_task
from nas.training.trainer import Trainer, TrainingInterrupted


@contextmanager
def trainers(file: StudyFile, architecture: Architecture, count: int) -> Iterator[None]:
    """Has processes train the architecture meanwhile; they pause while something is measured, as trials do."""
    context = multiprocessing.get_context("spawn")
    started, stop = [context.Event() for _ in range(count)], context.Event()
    processes = [
        context.Process(target=_train, args=(file, architecture, event, stop), daemon=True) for event in started
    ]
    for process in processes:
        process.start()
    try:
        for event, process in zip(started, processes, strict=True):
            while not event.wait(1) and process.is_alive():
                pass
        yield
    finally:
        stop.set()
        for process in processes:
            process.join()


@contextmanager
def disturbers(count: int) -> Iterator[None]:
    """Has processes keep a core busy each, without the lock, as other people's programs do."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    processes = [context.Process(target=_spin, args=(stop,), daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        stop.set()
        for process in processes:
            process.join()


def _spin(stop: Event) -> None:
    parent = os.getppid()
    while not stop.is_set() and os.getppid() == parent:
        sum(i * i for i in range(10_000))


def _train(file: StudyFile, architecture: Architecture, started: Event, stop: Event) -> None:
    """Trains under the lock until told to stop, or until the parent process is gone."""
    torch.set_num_threads(1)
    parent = os.getppid()
    endless = file.train.model_copy(update={"steps": 10**9, "rungs": (1.0,)})

    def stopped() -> bool:
        if trainer.step > 1:
            started.set()
        return stop.is_set() or os.getppid() != parent

    trainer = Trainer(
        architecture,
        open_task(file.task),
        endless,
        seed=0,
        learning_rate=(endless.learning_rate or (None,))[0],
        lock=DeviceLock("cpu"),
        should_stop=stopped,
    )
    try:
        trainer.run_to_next_rung()
    except TrainingInterrupted:
        return
