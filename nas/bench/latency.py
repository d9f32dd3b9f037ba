"""Tests how well measurements repeat: the same architectures are measured on an idle machine, and while others train.

The trainers take the device's lock around every step, as trials do, so they pause during a measurement. The result has,
for each timed metric of the models, Spearman's rank correlation between both, and the median relative difference. For
models with a source it also compares a whole answer, timed at once, with reading the source and writing its tokens,
timed separately.
"""

import random
import time
from collections.abc import Sequence
from statistics import median

from scipy.stats import spearmanr

from nas.architecture import Architecture
from nas.bench.latency_machine import disturbers, trainers
from nas.measure import DeviceLock, available_cpus
from nas.running.front_measurement import MEMBER_SECONDS
from nas.running.measuring import LoneMeasurement, measure_alone, measured_alone
from nas.settings.study_file import StudyFile
from nas.space.architecture_space import Space
from nas.tasks import open_task

TIMED = ("prefill_ms", "decode_ms_per_token")
Row = dict[str, float]


def retest(file: StudyFile, architectures: int, beside: int, seed: int = 0) -> dict[str, float]:
    """Measures distinct architectures of the file's space idle, and then beside so many training processes, or idle
    again where they are none. At last those programs that take no lock keep every core busy, and the architectures are
    measured as at the end of a search.

    Keys: METRIC_spearman, METRIC_median_difference, contended_idle and contended_busy (shares of measurements), and
    seconds_idle, seconds_busy and seconds_disturbed (medians of what a measurement takes). With a source also
    `parts_median_difference` and `parts_most_difference`: |(prefill + tokens · decode) / generation − 1|, idle.
    """
    drawn = draw(Space(file.spaces()), architectures, seed)
    idle = _measure(file, drawn)
    with trainers(file, drawn[-1], beside):
        busy = _measure(file, drawn)
    with disturbers(available_cpus()):
        disturbed = _measure_as_members(file, drawn)
    seconds = {"seconds_idle": idle, "seconds_busy": busy, "seconds_disturbed": disturbed}
    took = {name: median(row["seconds"] for row in rows) for name, rows in seconds.items()}
    return _compare(idle, busy) | took | _parts(idle, open_task(file.task).typical[1])


def draw(space: Space, count: int, seed: int) -> list[Architecture]:
    """Draws so many distinct architectures, or all that the space has."""
    generator, found = random.Random(seed), dict[str, Architecture]()
    while len(found) < min(count, space.size()):
        architecture = space.sample(generator)
        found[architecture.id] = architecture
    return list(found.values())


def _measure(file: StudyFile, architectures: Sequence[Architecture]) -> list[Row]:
    """Measures as before a training, sizes included."""
    task, lock, rows = open_task(file.task), DeviceLock("cpu"), []
    for architecture in architectures:
        started = time.monotonic()
        found = measure_alone(architecture, task, file, "cpu", lock)
        rows.append(found | {"seconds": time.monotonic() - started})
    return rows


def _measure_as_members(file: StudyFile, architectures: Sequence[Architecture]) -> list[Row]:
    """Measures as at the end of a search: times alone, and for a bounded time."""
    task, lock, rows = open_task(file.task), DeviceLock("cpu"), []
    for architecture in architectures:
        started = time.monotonic()
        lone = LoneMeasurement.of(architecture, task, file, "cpu", lock, MEMBER_SECONDS, counted={})
        rows.append(dict(measured_alone(lone).metrics) | {"seconds": time.monotonic() - started})
    return rows


def _compare(idle: Sequence[Row], busy: Sequence[Row]) -> dict[str, float]:
    result: dict[str, float] = {}
    for name in (name for name in TIMED if name in idle[0]):
        before, after = [row[name] for row in idle], [row[name] for row in busy]
        result[f"{name}_spearman"] = float(spearmanr(before, after).statistic)
        result[f"{name}_median_difference"] = median(abs(b / a - 1) for a, b in zip(before, after, strict=True))
    for kind, rows in (("idle", idle), ("busy", busy)):
        result[f"contended_{kind}"] = sum(row["contended"] for row in rows) / len(rows)
    return result


def _parts(rows: Sequence[Row], written: int) -> dict[str, float]:
    whole = [row for row in rows if "generation_ms" in row]
    if not whole:
        return {}
    apart = [
        abs((row["prefill_ms"] + written * row["decode_ms_per_token"]) / row["generation_ms"] - 1) for row in whole
    ]
    return {"parts_median_difference": median(apart), "parts_most_difference": max(apart)}
