"""Defines one layer of attention by itself: which calls are timed, and how much memory they take.

Shapes: B batch (always 1), T tokens, D hidden.
"""

import copy
from functools import cached_property

import psutil
import torch

from nas.attention import State, build
from nas.bench.interleaved import Call
from nas.kinds import Kind
from nas.measure import peak_mib
from nas.measure.latency import quiet

LIMIT_MIB = 8 * 1024
"""The most memory of a layer that is run; nine tenths of the machine's free memory, if that is less."""
SAFE_CONTEXT = 1024
"""A context at which no kind comes near the limit, so that the climb to longer contexts can begin."""


class Layer:
    """Builds a kind for a context: causal where it can be; otherwise it sees all tokens and has nothing to decode."""

    def __init__(self, spec: Kind, hidden: int, context: int) -> None:
        self.context, self.causal = context, "causal" in spec.forms
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.module = build(spec, hidden, context, self.causal)
            self.x_BTD = torch.randn(1, context, hidden, requires_grad=True)

    def call(self, operation: str) -> Call | None:
        """Returns one of `nas.bench.scaling.OPERATIONS`, or None where the kind does not have it.

        The call must be made within `quiet`.
        """
        match operation:
            case "forward":
                return Call(lambda _: self.infer())
            case "training":
                return Call(lambda _: self.train())
            case "decode" if self.causal:
                # Every step starts from a copy of the same state, so that all steps are at the same position.
                return Call(lambda state: self.module.step(self.x_BTD[:, -1:], state), self._almost_full)
        return None

    def infer(self) -> None:
        self.module(self.x_BTD)

    def train(self) -> None:
        """Runs forward, and the gradient of the sum of the outputs in the input and all weights."""
        with torch.inference_mode(False):
            y_BTD = self.module(self.x_BTD)
            if y_BTD.requires_grad:  # otherwise the output does not depend on the input
                torch.autograd.grad(y_BTD.sum(), [self.x_BTD, *self.module.parameters()], allow_unused=True)

    def stated(self) -> dict[str, int | None]:
        """Returns the costs that the layer states of itself."""
        return {
            "decode_state_bytes": self.module.state_bytes(1, self.context) if self.causal else None,
            "flops": self.module.flops(self.context),
            "params": sum(parameter.numel() for parameter in self.module.parameters()),
        }

    def _almost_full(self) -> State:
        return copy.deepcopy(self._prefilled)

    @cached_property
    def _prefilled(self) -> State:
        """Returns the state after all tokens but the last."""
        state: State = self.module.new_state(1, self.context)
        self.module.step(self.x_BTD[:, :-1], state)
        return state


class Climb:
    """Measures the peak memory of a kind, context after context, and never runs one that would not fit.

    Memory grows with the square of the context at most, and a step of the climb at most doubles the context. So a step
    needs at most four times the memory of the step before. Where that is too much, `refused` gives the reason.
    """

    def __init__(self, spec: Kind, hidden: int, training: bool, limit_mib: float = LIMIT_MIB) -> None:
        self._spec, self._hidden, self._training = spec, hidden, training
        self._limit_mib = min(limit_mib, 0.9 * psutil.virtual_memory().available / 2**20)
        self._context = 0
        self.mib, self.refused = 0.0, ""

    def to(self, context: int) -> None:
        while self._context < context and not self.refused:
            following = min(context, max(SAFE_CONTEXT, 2 * self._context))
            most_mib = self.mib * (following / self._context) ** 2 if self._context else 0.0
            if most_mib > self._limit_mib:
                mode = "training" if self._training else "inference"
                limits = f"{most_mib / 1024:.1f} GiB, above {self._limit_mib / 1024:.1f} GiB"
                self.refused = f"{mode} with {following} tokens may need {limits}"
            else:
                self.mib, self._context = self._peak_mib(following), following

    def _peak_mib(self, context: int) -> float:
        layer = Layer(self._spec, self._hidden, context)
        with quiet(layer.module, torch.get_num_threads()):
            return peak_mib(layer.train if self._training else layer.infer, layer.module)
