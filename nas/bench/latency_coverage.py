"""Tests whether intervals of latency are honest: the same architectures are measured again and again, minutes apart.

Every second round runs beside training processes. As a confirmation does, an interval is computed from the medians of
BLOCKS rounds that follow each other. It should cover the grand median, that of all rounds, in 95 of 100 cases.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any

from nas.architecture import Architecture
from nas.bench.latency import TIMED, draw
from nas.bench.latency_machine import trainers
from nas.measure import DeviceLock
from nas.measurement import MAIN, TimedMetrics, between_runs
from nas.running.measuring import LoneMeasurement, measured_alone
from nas.settings.study_file import StudyFile
from nas.space.architecture_space import Space
from nas.tasks import open_task

BLOCKS = 5

Measure = Callable[[Architecture], TimedMetrics]


def coverage(
    file: StudyFile,
    architectures: int,
    rounds: int,
    minutes: float,
    beside: int,
    say: Callable[[str], object],
    seed: int = 0,
) -> dict[str, Any]:
    """Measures distinct architectures in so many rounds, spread evenly over so many minutes: what `summary` returns."""
    drawn = draw(Space(file.spaces()), architectures, seed)
    task, lock = open_task(file.task), DeviceLock("cpu")

    def measure(architecture: Architecture) -> TimedMetrics:
        return measured_alone(LoneMeasurement.of(architecture, task, file, "cpu", lock, counted={}))

    found: list[list[dict[str, Any]]] = []
    started = time.monotonic()
    for number in range(rounds):
        time.sleep(max(0.0, started + number * 60 * minutes / rounds - time.monotonic()))
        busy = bool(number % 2 and beside)
        with ExitStack() as stack:
            if busy:
                stack.enter_context(trainers(file, drawn[-1], beside))
            found.append([_row(measure, architecture, busy) for architecture in drawn])
        say(f"round {number + 1} of {rounds}{', beside trainers' if busy else ''}")
    return summary(found)


def _row(measure: Measure, architecture: Architecture, busy: bool) -> dict[str, Any]:
    started = time.monotonic()
    timed = measure(architecture)
    conditions = [condition["name"] for condition in timed.measurement[MAIN]["conditions"]]
    told = {"seconds": time.monotonic() - started, "busy": busy, "conditions": conditions}
    return {"architecture_id": architecture.id, "metrics": dict(timed.metrics)} | told


def summary(rounds: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Sums up the rounds, each with a row {architecture_id, metrics, seconds, busy, conditions} an architecture.

    Keys, for each timed metric: METRIC_coverage, the share of the intervals between runs that cover the grand median,
    of METRIC_intervals; METRIC_half_width, half an interval over the grand median (median); METRIC_within_coverage, the
    share of single runs whose own interval covers it; METRIC_busy_difference, the median of runs beside trainers over
    that of the others, less 1 (median of sizes). Besides these contended_idle, contended_busy, seconds (median),
    most_seconds, conditions (name → share of runs), and `rows`.
    """
    rows = [row for each in rounds for row in each]
    result: dict[str, Any] = {}
    for name in (name for name in TIMED if name in rows[0]["metrics"]):
        result |= {f"{name}_{key}": value for key, value in _coverage(rounds, name).items()}
    for kind, wanted in (("idle", False), ("busy", True)):
        some = [row["metrics"]["contended"] for row in rows if row["busy"] is wanted]
        result[f"contended_{kind}"] = sum(some) / len(some) if some else 0.0
    seconds = [row["seconds"] for row in rows]
    named = Counter(name for row in rows for name in set(row["conditions"]))
    missed = {name: count / len(rows) for name, count in sorted(named.items())}
    return result | {"seconds": median(seconds), "most_seconds": max(seconds), "conditions": missed, "rows": rows}


def _coverage(rounds: Sequence[Sequence[Mapping[str, Any]]], name: str) -> dict[str, float]:
    covered, widths, within, differences = list[bool](), list[float](), list[bool](), list[float]()
    for i in range(len(rounds[0])):
        rows = [each[i] for each in rounds]
        times = [row["metrics"][name] for row in rows]
        grand = median(times)
        for first in range(len(times) - BLOCKS + 1):
            interval = between_runs(times[first : first + BLOCKS])
            if interval:
                covered.append(interval.low <= grand <= interval.high)
                widths.append((interval.high - interval.low) / 2 / grand)
        ends = [(row["metrics"].get(f"{name}_low"), row["metrics"].get(f"{name}_high")) for row in rows]
        within += [low <= grand <= high for low, high in ends if low is not None]
        idle, busy = (
            [t for t, row in zip(times, rows, strict=True) if row["busy"] is which] for which in (False, True)
        )
        differences += [median(busy) / median(idle) - 1] if idle and busy else []
    return {
        "coverage": sum(covered) / max(1, len(covered)),
        "intervals": float(len(covered)),
        "half_width": median(widths) if widths else 0.0,
        "within_coverage": sum(within) / max(1, len(within)),
        "busy_difference": median(map(abs, differences)) if differences else 0.0,
    }
