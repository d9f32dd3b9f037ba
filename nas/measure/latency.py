"""Measures latency by the wall clock: the time to read a prompt, and the time of each token generated after it.

One round is one prefill and a series of decode steps. So both are spread over the whole measurement, and a short
disturbance spoils few readings of either. Decoding continues from the prompt to the end of the context, then starts
again from a fresh prefill. So every position counts about equally often, and the median is that of whole generations.

B batch, T tokens.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from nas.errors import UsageError
from nas.measure.pace import Pace
from nas.measurement import Measurement

DECODE_READINGS = 8
"""The least decode readings for each prefill reading: they are short, and there is one for every position.
"""
MOST_ROUNDS = 8
MOST_SECONDS = 10.0
"""So many seconds are spent on waiting for the machine's full pace, once there are enough rounds."""
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


@runtime_checkable
class Generator(Protocol):
    """Describes a model that generates: the methods that measuring calls, besides those of every module."""

    def new_state(self, batch: int, context: int) -> Any: ...
    def prefill(self, tokens_BT: Tensor, state: Any) -> Tensor: ...
    def decode_step(self, token_B: Tensor, state: Any) -> Tensor: ...
    def flops(self, tokens: int) -> int: ...
    def state_bytes(self, batch: int, context: int) -> int: ...


class Reader:
    """Describes a model that reads whole sequences and generates nothing, an encoder, as measuring calls it."""

    def __init__(self, model: nn.Module) -> None:
        self._model: Any = model

    def new_state(self, batch: int, context: int) -> None:
        return None

    def prefill(self, tokens_BT: Tensor, state: Any) -> Tensor:
        read: Tensor = self._model(tokens_BT)
        return read

    def decode_step(self, token_B: Tensor, state: Any) -> Tensor:
        raise UsageError("an encoder does not generate")

    def flops(self, tokens: int) -> int:
        flops: int = self._model.flops(tokens)
        return flops

    def state_bytes(self, batch: int, context: int) -> int:
        return 0


@dataclass(frozen=True)
class Workload:
    """Describes the timed workload: `batch` rows of `context` tokens.

    The first `prompt` tokens are read at once, the others one by one.

    A model that does not generate reads them all at once: `prompt` is the context. A model with a source reads that
    first, and its decode state holds only the tokens that it writes: `answers`.
    """

    tokens_BT: Tensor
    prompt: int
    generates: bool = True
    answers: bool = False

    def __post_init__(self) -> None:
        if self.generates and not 1 <= self.prompt < self.context:
            raise UsageError(
                f"a prompt of {self.prompt} tokens does not fit a context of {self.context}",
                where="measure.prompt",
                help=f"use 1 to {self.context - 1}" if self.context > 1 else "use a context of at least 2",
            )

    @property
    def batch(self) -> int:
        return self.tokens_BT.size(0)

    @property
    def context(self) -> int:
        return self.tokens_BT.size(1)

    @property
    def state_tokens(self) -> int:
        """Counts the tokens that a decode state has to hold."""
        return self.generated if self.answers else self.context

    @property
    def generated(self) -> int:
        """Counts the tokens of one generation, in each row."""
        return self.context - self.prompt


class Generation:
    """Reads the prompt and generates to the end of the context, again and again, one timed call at a time."""

    def __init__(self, model: Generator, workload: Workload) -> None:
        self._model, self._workload = model, workload
        device = workload.tokens_BT.device
        self._synchronise: Callable[[], None] = (
            partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
        )
        self._tokens_TB = workload.tokens_BT.T.contiguous()
        self._state: Any = None
        self._position = workload.context

    def prefill_ms(self) -> float:
        """Reads the prompt into a new state. Decoding continues with it if the present state is full."""
        state, prompt_BT = self._fresh()
        elapsed = self._timed_ms(lambda: self._model.prefill(prompt_BT, state))
        if self._workload.generates and self._position == self._workload.context:
            self._state, self._position = state, self._workload.prompt
        return elapsed

    def whole_ms(self) -> float:
        """Reads the prompt and writes all that follows, each time the likeliest token."""
        state, prompt_BT = self._fresh()

        def write() -> None:
            self._model.prefill(prompt_BT, state)
            token_B = self._tokens_TB[self._workload.prompt]
            for _ in range(self._workload.generated):
                token_B = self._model.decode_step(token_B, state).argmax(dim=-1)

        return self._timed_ms(write)

    def decode_ms(self) -> float:
        """Generates one token in every row."""
        if self._position == self._workload.context:
            self.prefill_ms()
        token_B = self._tokens_TB[self._position]
        self._position += 1
        return self._timed_ms(lambda: self._model.decode_step(token_B, self._state))

    def _fresh(self) -> tuple[Any, Tensor]:
        state = self._model.new_state(self._workload.batch, self._workload.state_tokens)
        return state, self._workload.tokens_BT[:, : self._workload.prompt]

    def _timed_ms(self, run: Callable[[], object]) -> float:
        self._synchronise()
        start = time.perf_counter_ns()
        run()
        self._synchronise()
        return (time.perf_counter_ns() - start) / 1e6


@dataclass(frozen=True)
class Round:
    """Holds one prefill and the decode steps after it; for an answer, also one whole generation.

    It holds the slowest time of the pace loop before and after.
    """

    prefill_ms: float
    decode_ms: tuple[float, ...]
    whole_ms: float | None
    loop_ns: float


@dataclass(frozen=True)
class Latency:
    """Milliseconds to read the prompt, for each generated token if any, and for a whole answer.

    `slowed` means below the machine's full pace. `best` holds the same of the fastest round, by metric.
    """

    prefill_ms: Measurement
    decode_ms: Measurement | None
    whole_ms: Measurement | None
    slowed: bool
    best: Mapping[str, float]

    @classmethod
    def of(cls, rounds: Sequence[Round], slowed: bool) -> Self:
        decode_ms = [reading for r in rounds for reading in r.decode_ms]
        whole_ms = [r.whole_ms for r in rounds if r.whole_ms is not None]
        generated, whole = (Measurement.of(readings) if readings else None for readings in (decode_ms, whole_ms))
        best = {"prefill_ms_best": min(r.prefill_ms for r in rounds)}
        best |= {"decode_ms_per_token_best": min(median(r.decode_ms) for r in rounds)} if generated else {}
        best |= {"generation_ms_best": min(whole_ms)} if whole else {}
        return cls(Measurement.of([r.prefill_ms for r in rounds]), generated, whole, slowed, best)


def latency(
    model: Generator,
    workload: Workload,
    repeats: int,
    pace: Pace,
    seconds: float = MOST_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    should_stop: Callable[[], bool] = never,
) -> Latency:
    """Measures rounds until `repeats` of them were at the machine's full pace. Call it within `quiet`.

    Where MOST_ROUNDS times as many rounds, or `seconds`, do not give enough of them, the rounds at the best pace count,
    and `slowed` says so. Raises MeasuringStopped between two rounds once `should_stop` says so.
    """
    started = clock()
    generation = Generation(model, workload)
    _warm_up(generation, workload.generates)
    # At least one whole generation, so that every position counts.
    steps = max(DECODE_READINGS, -(-workload.generated // repeats)) if workload.generates else 0
    rounds: list[Round] = []
    loop_ns = pace.loop_ns()
    while True:
        if should_stop():
            raise MeasuringStopped
        before = loop_ns
        prefill_ms = generation.prefill_ms()
        decode_ms = tuple(generation.decode_ms() for _ in range(steps))
        whole_ms = generation.whole_ms() if workload.answers else None
        loop_ns = pace.loop_ns()
        rounds.append(Round(prefill_ms, decode_ms, whole_ms, max(before, loop_ns)))
        full = [r for r in rounds if pace.full(r.loop_ns)]
        if len(full) >= repeats:
            return Latency.of(full, slowed=False)
        late = len(rounds) >= repeats and clock() - started > seconds
        if late or len(rounds) == MOST_ROUNDS * repeats:
            return Latency.of(sorted(rounds, key=lambda r: r.loop_ns)[:repeats], slowed=True)
        if not pace.full(loop_ns):
            time.sleep(PAUSE_SECONDS)  # the next round does not count either, as its pace began slow: it warms up


def _warm_up(generation: Generation, generates: bool) -> None:
    """Repeats rounds until they get no faster: caches fill, the allocator learns the sizes, the clock frequency
    rises.
    """
    before = float("inf")
    for _ in range(MOST_WARM_UP_BATCHES):
        now = median(
            generation.prefill_ms() + (generation.decode_ms() if generates else 0.0) for _ in range(WARM_UP_BATCH)
        )
        if now > SETTLED * before:
            return
        before = now


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
