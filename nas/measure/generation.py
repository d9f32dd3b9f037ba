"""Generates with a model, one timed call at a time: reading a prompt, writing a token, or writing a whole answer.

B batch, T tokens.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from nas.errors import UsageError


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
        elapsed = self._step_ms(self._state, self._position)
        self._position += 1
        return elapsed

    def all_ms(self) -> list[float]:
        """Generates from the prompt to the end of the context: the time of each token."""
        if self._position != self._workload.prompt:
            self._position = self._workload.context
        return [self.decode_ms() for _ in range(self._workload.generated)]

    def states_at(self, positions: tuple[int, ...]) -> list[Any]:
        """Generates once, and returns copies of the state before each of these positions, which rise."""
        state, prompt_BT = self._fresh()
        self._model.prefill(prompt_BT, state)
        found = []
        for position in range(self._workload.prompt, positions[-1] + 1):
            if position in positions:
                found.append(deepcopy(state))
            self._model.decode_step(self._tokens_TB[position], state)
        return found

    def decode_from(self, state: Any, position: int, tokens: int) -> list[float]:
        """Generates tokens from a copy of the state, which holds those before the position. The first is not timed: it
        loads the copy.
        """
        state = deepcopy(state)
        self._model.decode_step(self._tokens_TB[position], state)
        return [self._step_ms(state, position + 1 + i) for i in range(tokens)]

    def _step_ms(self, state: Any, position: int) -> float:
        token_B = self._tokens_TB[position]
        return self._timed_ms(lambda: self._model.decode_step(token_B, state))

    def _fresh(self) -> tuple[Any, Tensor]:
        state = self._model.new_state(self._workload.batch, self._workload.state_tokens)
        return state, self._workload.tokens_BT[:, : self._workload.prompt]

    def _timed_ms(self, run: Callable[[], object]) -> float:
        self._synchronise()
        start = time.perf_counter_ns()
        run()
        self._synchronise()
        return (time.perf_counter_ns() - start) / 1e6
