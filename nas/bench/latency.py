"""Tests how well measurements repeat: the same architectures are measured on an idle machine, and while others train.

The trainers take the device's lock around every step, as trials do, so they pause during a measurement. The result has,
for each timed metric of the models, Spearman's rank correlation between both, and the median relative difference. For
models with a source it also compares a whole answer, timed at once, with reading the source and writing its tokens,
timed separately.
"""

import multiprocessing
import os
import random
from collections.abc import Sequence
from multiprocessing.synchronize import Event
from statistics import median

import torch
from scipy.stats import spearmanr

from nas.architecture import Architecture
from nas.measure import DeviceLock
from nas.running.measuring import measure_alone
from nas.settings.study_file import StudyFile
from nas.space.architecture_space import Space
from nas.tasks import open_task
from nas.training.trainer import Trainer, TrainingInterrupted

TIMED = ("prefill_ms", "decode_ms_per_token")


def retest(file: StudyFile, architectures: int, trainers: int, seed: int = 0) -> dict[str, float]:
    """Measures distinct architectures of the file's space idle, and then beside `trainers` training processes.

    Keys: METRIC_spearman, METRIC_median_difference, contended_idle and contended_busy (shares of measurements). With a
    source also `parts_median_difference` and `parts_most_difference`: |(prefill + tokens · decode) / generation − 1|,
    idle.
    """
    drawn = _draw(Space(file.spaces()), architectures, seed)
    idle = _measure(file, drawn)
    context = multiprocessing.get_context("spawn")
    started, stop = [context.Event() for _ in range(trainers)], context.Event()
    processes = [context.Process(target=_train, args=(file, drawn[-1], event, stop), daemon=True) for event in started]
    for process in processes:
        process.start()
    try:
        for event, process in zip(started, processes, strict=True):
            while not event.wait(1) and process.is_alive():
                pass
        busy = _measure(file, drawn)
    finally:
        stop.set()
        for process in processes:
            process.join()
    return _compare(idle, busy) | _parts(idle, open_task(file.task).typical[1])


def _draw(space: Space, count: int, seed: int) -> list[Architecture]:
    generator, found = random.Random(seed), dict[str, Architecture]()
    while len(found) < min(count, space.size()):
        architecture = space.sample(generator)
        found[architecture.id] = architecture
    return list(found.values())


def _measure(file: StudyFile, architectures: Sequence[Architecture]) -> list[dict[str, float]]:
    task, lock = open_task(file.task), DeviceLock("cpu")
    return [measure_alone(architecture, task, file, "cpu", lock) for architecture in architectures]


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


def _compare(idle: Sequence[dict[str, float]], busy: Sequence[dict[str, float]]) -> dict[str, float]:
    result: dict[str, float] = {}
    for name in (name for name in TIMED if name in idle[0]):
        before, after = [row[name] for row in idle], [row[name] for row in busy]
        result[f"{name}_spearman"] = float(spearmanr(before, after).statistic)
        result[f"{name}_median_difference"] = median(abs(b / a - 1) for a, b in zip(before, after, strict=True))
    for kind, rows in (("idle", idle), ("busy", busy)):
        result[f"contended_{kind}"] = sum(row["contended"] for row in rows) / len(rows)
    return result


def _parts(rows: Sequence[dict[str, float]], written: int) -> dict[str, float]:
    whole = [row for row in rows if "generation_ms" in row]
    if not whole:
        return {}
    apart = [
        abs((row["prefill_ms"] + written * row["decode_ms_per_token"]) / row["generation_ms"] - 1) for row in whole
    ]
    return {"parts_median_difference": median(apart), "parts_most_difference": max(apart)}
