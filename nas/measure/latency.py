"""Measures latency by the wall clock: the time to read a prompt, and the time of each token generated after it.

One round reads the prompt and generates tokens. So both are spread over the whole measurement, and a short disturbance
spoils few readings of either. From protocol 2 on every round does the same work, and rounds are added until the
interval of each median is narrow. With protocol 1 a round decodes where the last one ended, and their number is given.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import Self

import torch
from torch import nn

from nas.measure.generation import Generation, Generator, Workload
from nas.measure.pace import Pace
from nas.measurement import FEWEST_ROUNDS, Measurement, median_interval
from nas.settings.protocol_versions import VERSIONS
from nas.settings.study_settings import MeasureSettings

DECODE_READINGS = 8
"""The least decode readings of a round: they are short, and there is one for every position.
"""
LONGEST = 64
"""A round of a longer generation decodes DEPTHS samples of SAMPLE tokens, evenly spaced, from copies of its states."""
DEPTHS, SAMPLE = 5, 12
MOST_COPIED_BYTES = 2**28
"""States are copied up to this size in all; else a round is a whole generation."""
MOST_PREFILLS = 4
"""A round reads the prompt up to so often, if that takes at most half as long as its decoding."""
MOST_ROUNDS = 8
"""There are at most so many times the least number of rounds."""
PAUSE_SECONDS = 0.01
"""After a slow round the measurement pauses: the disturbance may pass, or the scheduler find a better core."""
SETTLED = 0.97
"""The warm-up ends when a batch of rounds takes more than this share of the batch before."""
WARM_UP_BATCH = 5
MOST_WARM_UP_BATCHES = 20


class MeasuringStopped(Exception):
    """The measurement was told to stop, and knows nothing yet."""


def never() -> bool:
    return False


@dataclass(frozen=True)
class Round:
    """Holds readings of the prompt, and of decode steps by their position; for an answer, also one whole generation.

    It holds the slowest time of the pace loop before and after.
    """

    prefill_ms: tuple[float, ...]
    decode_ms: tuple[float, ...]
    whole_ms: float | None
    loop_ns: float

    @cached_property
    def medians(self) -> tuple[float, ...]:
        """Returns the median of each quantity that the round timed."""
        parts = (self.prefill_ms, self.decode_ms, () if self.whole_ms is None else (self.whole_ms,))
        return tuple(median(readings) for readings in parts if readings)


@dataclass(frozen=True)
class Latency:
    """Holds milliseconds to read the prompt, for each generated token if any, and for a whole answer.

    `slowed` means below the machine's full pace. `best` holds the same of the fastest round, by metric, and `depths`
    the time of a token at the start, in the middle and at the end of the generation. `rounds` are those that count.
    """

    prefill_ms: Measurement
    decode_ms: Measurement | None
    whole_ms: Measurement | None
    slowed: bool
    best: Mapping[str, float]
    depths: Mapping[str, float]
    rounds: tuple[Round, ...]

    @classmethod
    def of(cls, rounds: Sequence[Round], slowed: bool, alike: bool) -> Self:
        made = Measurement.of_rounds if alike else _of_all
        whole_ms = [(r.whole_ms,) for r in rounds if r.whole_ms is not None]
        generated = made([r.decode_ms for r in rounds]) if rounds[0].decode_ms else None
        best = {"prefill_ms_best": min(median(r.prefill_ms) for r in rounds)}
        best |= {"decode_ms_per_token_best": min(median(r.decode_ms) for r in rounds)} if generated else {}
        best |= {"generation_ms_best": min(whole_ms)[0]} if whole_ms else {}
        depths = _depths([r.decode_ms for r in rounds]) if alike and generated else {}
        whole = made(whole_ms) if whole_ms else None
        return cls(made([r.prefill_ms for r in rounds]), generated, whole, slowed, best, depths, tuple(rounds))

    @property
    def measurements(self) -> dict[str, Measurement]:
        """Returns each measurement by the name of its metric."""
        found = {
            "prefill_ms": self.prefill_ms,
            "decode_ms_per_token": self.decode_ms,
            "generation_ms": self.whole_ms,
        }
        return {name: measurement for name, measurement in found.items() if measurement}

    @property
    def readings(self) -> dict[str, list[tuple[float, ...]]]:
        """Returns the readings of each metric, by round."""
        whole: list[tuple[float, ...]] = [(r.whole_ms,) for r in self.rounds if r.whole_ms is not None]
        found: dict[str, list[tuple[float, ...]]] = {
            "prefill_ms": [r.prefill_ms for r in self.rounds],
            "decode_ms_per_token": [r.decode_ms for r in self.rounds if r.decode_ms],
            "generation_ms": whole,
        }
        return {name: readings for name, readings in found.items() if readings}


def _of_all(rounds: Sequence[Sequence[float]]) -> Measurement:
    return Measurement.of([reading for readings in rounds for reading in readings])


def _depths(rounds: Sequence[Sequence[float]]) -> dict[str, float]:
    """Returns the time of a token in the first, the middle and the last fifth of a generation: the median of rounds."""
    size = len(rounds[0])
    fifth = max(1, size // 5)
    starts = {"start": 0, "middle": (size - fifth) // 2, "end": size - fifth}
    return {
        f"decode_ms_per_token_{name}": median(median(readings[first : first + fifth]) for readings in rounds)
        for name, first in starts.items()
    }


@dataclass(frozen=True)
class StoppingRule:
    """Says when there are enough rounds: `least`, whose intervals are all within `precision`, or else `most`.

    Once `seconds` are over, `enough` are: those from which an interval can be computed. Without a precision, the
    intervals do not count.
    """

    least: int
    most: int
    enough: int
    precision: float | None
    seconds: float

    @classmethod
    def of(cls, settings: MeasureSettings) -> Self:
        """Returns the rule of the settings and of the version of the protocol that they name."""
        version = VERSIONS[settings.protocol]
        least = min(settings.repeats, version.fewest)
        precision = settings.precision if version.to_precision else None
        enough = FEWEST_ROUNDS if version.to_precision else least
        return cls(least, MOST_ROUNDS * settings.repeats, enough, precision, version.seconds)

    def met(self, full: Sequence[Round]) -> bool:
        """Tells whether rounds at the machine's full pace are enough."""
        return len(full) >= self.least and (self.precision is None or precision(full) <= self.precision)

    def late(self, rounds: int, seconds: float) -> bool:
        """Tells whether to end without."""
        return (rounds >= self.enough and seconds > self.seconds) or rounds >= self.most


def precision(rounds: Sequence[Round]) -> float:
    """Returns half the width of the widest interval of a median over rounds, relative to it; infinite where there is
    none.
    """
    widths = []
    for medians in zip(*(r.medians for r in rounds), strict=True):
        interval = median_interval(medians)
        widths.append(interval.half_width(median(medians)) if interval else float("inf"))
    return max(widths)


def latency(
    model: Generator,
    workload: Workload,
    settings: MeasureSettings,
    pace: Pace,
    clock: Callable[[], float] = time.monotonic,
    should_stop: Callable[[], bool] = never,
    seconds: float | None = None,
) -> Latency:
    """Measures rounds until enough of them, by `StoppingRule`, were at the machine's full pace. Call it within `quiet`.

    Where the rule ends it earlier, rounds at the best pace count, and `slowed` says so, unless those at full pace are
    enough for an interval. `seconds` replaces the rule's. Raises MeasuringStopped between two rounds once `should_stop`
    says so.
    """
    rule, alike = StoppingRule.of(settings), VERSIONS[settings.protocol].alike
    rule = rule if seconds is None else replace(rule, seconds=seconds)
    started = clock()
    generation = Generation(model, workload)
    prefills = _warm_up(generation, workload)
    if not alike:
        prefills = 1
    decode = _decoding(model, generation, workload, settings)
    rounds: list[Round] = []
    loop_ns = pace.loop_ns()
    while True:
        if should_stop():
            raise MeasuringStopped
        before = loop_ns
        prefill_ms = tuple(generation.prefill_ms() for _ in range(prefills))
        decode_ms = decode()
        whole_ms = generation.whole_ms() if workload.answers else None
        loop_ns = pace.loop_ns()
        rounds.append(Round(prefill_ms, decode_ms, whole_ms, max(before, loop_ns)))
        full = [r for r in rounds if pace.full(r.loop_ns)]
        if rule.met(full):
            return Latency.of(full, slowed=False, alike=alike)
        if rule.late(len(rounds), clock() - started):
            if len(full) >= rule.enough:
                return Latency.of(full, slowed=False, alike=alike)
            return Latency.of(
                sorted(rounds, key=lambda r: r.loop_ns)[: max(rule.least, rule.enough)], slowed=True, alike=alike
            )
        if not pace.full(loop_ns):
            time.sleep(PAUSE_SECONDS)  # the next round does not count either, as its pace began slow: it warms up


def sampled(model: Generator, workload: Workload) -> tuple[int, ...]:
    """Returns the positions from which a round decodes samples of a long generation; none where it decodes all."""
    length = workload.generated // DEPTHS
    if workload.generated <= LONGEST or length <= SAMPLE:
        return ()
    if DEPTHS * model.state_bytes(workload.batch, workload.state_tokens) > MOST_COPIED_BYTES:
        return ()
    middle = (length - SAMPLE - 1) // 2
    return tuple(workload.prompt + depth * workload.generated // DEPTHS + middle for depth in range(DEPTHS))


def _decoding(
    model: Generator, generation: Generation, workload: Workload, settings: MeasureSettings
) -> Callable[[], tuple[float, ...]]:
    """Returns what times the tokens of a round, by their position."""
    if not workload.generates:
        return tuple
    if not VERSIONS[settings.protocol].alike:
        # At least one whole generation in all rounds, so that every position counts.
        steps = max(DECODE_READINGS, -(-workload.generated // settings.repeats))
        return lambda: tuple(generation.decode_ms() for _ in range(steps))
    if positions := sampled(model, workload):
        states = generation.states_at(positions)
        return lambda: tuple(
            reading
            for state, position in zip(states, positions, strict=True)
            for reading in generation.decode_from(state, position, SAMPLE)
        )
    turns = -(-DECODE_READINGS // workload.generated)

    def whole() -> tuple[float, ...]:
        found = [generation.all_ms() for _ in range(turns)]
        return tuple(reading for readings in zip(*found, strict=True) for reading in readings)

    return whole


def _warm_up(generation: Generation, workload: Workload) -> int:
    """Repeats rounds until they get no faster: caches fill, the allocator learns the sizes, the clock frequency
    rises.

    Returns how often a round reads the prompt.
    """
    before, prefill_ms, decode_ms = float("inf"), [0.0], [0.0]
    for _ in range(MOST_WARM_UP_BATCHES):
        prefill_ms, decode_ms = [], []
        for _ in range(WARM_UP_BATCH):
            prefill_ms.append(generation.prefill_ms())
            decode_ms.append(generation.decode_ms() if workload.generates else 0.0)
        now = median(a + b for a, b in zip(prefill_ms, decode_ms, strict=True))
        if now > SETTLED * before:
            break
        before = now
    decoding = median(decode_ms) * min(workload.generated, DEPTHS * SAMPLE)
    return max(1, min(MOST_PREFILLS, int(decoding / 2 / max(median(prefill_ms), 1e-6))))


@contextmanager
def quiet(model: nn.Module, threads: int) -> Iterator[None]:
    """Sets evaluation mode, no gradients, that many threads and no garbage collection, and restores all of it
    afterwards.
    """
    modes = [(module, module.training) for module in model.modules()]
    threads_before, collecting = torch.get_num_threads(), gc.isenabled()
    model.eval()
    gc.disable()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads_before)
        if collecting:
            gc.enable()
        for module, training in modes:
            module.training = training
