"""Times several things fairly: a few calls of each in turn, round after round.

A disturbance of the machine then slows all of them, and times that are compared come from the same minute. Every
reading is one call; the result is their median, with its spread.
"""

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from nas.measure import DeviceLock
from nas.measure.contention import LoadWatch
from nas.measurement import Measurement

ROUNDS = 5
FEWEST, ENOUGH_SECONDS = 5, 0.2
"""A call is repeated at least so often and for at least so long."""
MOST_SECONDS = 5.0
"""The most seconds in all: a call of several seconds is read fewer times, but at least once."""
WARM_UP_SECONDS = 0.05
"""A call that takes longer than this is made once."""

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Call:
    """Times `run` on what `prepare` made for it just before, untimed."""

    run: Callable[[Any], object]
    prepare: Callable[[], Any] = lambda: None

    def ms(self) -> float:
        given = self.prepare()
        start = time.perf_counter_ns()
        self.run(given)
        return (time.perf_counter_ns() - start) / 1e6


@dataclass(frozen=True)
class Timed:
    """Holds the milliseconds of a call, and the share of the rounds in which others kept the machine busy."""

    ms: Measurement
    contended: float


def interleaved(calls: Mapping[Name, Call], most: int, lock: DeviceLock) -> dict[Name, Timed]:
    """Takes at most `most` readings of each call. Trainings on this machine pause in every round."""
    if not calls:
        return {}
    readings: dict[Name, list[float]] = {name: [] for name in calls}
    with lock.measuring():
        wanted = {name: repeats(warm_up_ms(call), most) for name, call in calls.items()}
    contended = 0
    for i in range(ROUNDS):
        with lock.measuring(), LoadWatch(torch.device("cpu")) as load:
            for name, call in calls.items():
                for _ in range(wanted[name] * (i + 1) // ROUNDS - wanted[name] * i // ROUNDS):
                    readings[name].append(call.ms())
        contended += load.contended
    return {name: Timed(Measurement.of(found), contended / ROUNDS) for name, found in readings.items()}


def repeats(ms: float, most: int) -> int:
    """Returns how often to time a call that takes so long."""
    enough = max(FEWEST, round(ENOUGH_SECONDS * 1000 / ms))
    return max(1, min(most, enough, int(MOST_SECONDS * 1000 / ms)))


def warm_up_ms(call: Call) -> float:
    """Repeats calls until caches are full and the allocator knows the sizes; returns about the time of a call."""
    shortest = call.ms()
    end = time.perf_counter() + WARM_UP_SECONDS
    while shortest < WARM_UP_SECONDS * 1000 and time.perf_counter() < end:
        shortest = min(shortest, call.ms())
    return shortest
