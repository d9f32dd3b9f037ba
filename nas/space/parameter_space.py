"""Defines a space of parameters, for a body of your own: what may be chosen, and how a trial chooses."""

import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

from nas.architecture import Architecture
from nas.formatting import one_line
from nas.space.architecture_space import Space
from nas.space.parameter_settings import ParameterSettings, Range, is_fixed, only

MOST_WALKED = 100_000


class ParameterChooser(Protocol):
    """Describes the part of an Optuna trial that a space of parameters needs."""

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...


@dataclass(frozen=True)
class Parameters:
    """Holds one choice of all parameters, fixed ones included. It takes the place of an architecture."""

    values: Mapping[str, Any]

    @cached_property
    def id(self) -> str:
        """Returns the first 12 hex digits of the SHA-256 of the values as canonical JSON."""
        text = json.dumps(self.values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def canonical(self) -> dict[str, Any]:
        """Returns the values as plain data."""
        return dict(self.values)

    def __str__(self) -> str:
        return one_line(self.values)


class ParameterSpace:
    """Holds the parameters that the settings allow. One with a single value is not searched, but bodies receive it."""

    def __init__(self, settings: ParameterSettings) -> None:
        self.settings = settings

    def size(self) -> int | None:
        """Counts the distinct choices, exactly; None where a parameter is continuous."""
        return self.settings.size

    def suggest(self, trial: ParameterChooser) -> Parameters:
        """Returns one choice of all parameters, made by the trial."""
        return Parameters({name: _chosen(trial, name, given) for name, given in self.settings.parameters.items()})

    def sample(self, generator: random.Random) -> Parameters:
        """Draws one choice uniformly."""
        return self.suggest(_RandomChooser(generator))

    def walk(self) -> Iterator[tuple[dict[str, Any], Parameters]]:
        """Yields every choice once, with Optuna's parameters; nothing where the space is too large for draws to
        exhaust.
        """
        size = self.size()
        if size is None or size > MOST_WALKED:
            return
        names = list(self.settings.parameters)
        for values in itertools.product(*(_values(given) for given in self.settings.parameters.values())):
            found = Parameters(dict(zip(names, values, strict=True)))
            yield self._free(found), found

    def params_of(self, parameters: Parameters) -> dict[str, Any]:
        """Returns the values of a choice that Optuna knows: those that are not fixed."""
        return self._free(parameters)

    def read(self, attributes: Mapping[str, Any]) -> Parameters:
        """Returns the choice that a row's attributes hold."""
        return Parameters(attributes["parameters"])

    def _free(self, parameters: Parameters) -> dict[str, Any]:
        given = self.settings.parameters
        return {name: value for name, value in parameters.values.items() if not is_fixed(given[name])}


Design: TypeAlias = Architecture | Parameters
"""An architecture or parameters, as a trial tries them."""
SearchSpace: TypeAlias = Space | ParameterSpace


def _chosen(trial: ParameterChooser, name: str, given: Range | tuple[Any, ...]) -> Any:
    if is_fixed(given):
        return only(given)
    if not isinstance(given, Range):
        return trial.suggest_categorical(name, given)
    if given.whole:
        low, high, step = int(given.low), int(given.high), int(given.step or 1)
        return trial.suggest_int(name, low, high, step=step, log=given.log)
    step_size = None if given.step is None else float(given.step)
    return trial.suggest_float(name, float(given.low), float(given.high), step=step_size, log=given.log)


def _values(given: Range | tuple[Any, ...]) -> Sequence[Any]:
    if not isinstance(given, Range):
        return given
    step = given.step or 1
    if given.whole:
        return range(int(given.low), int(given.high) + 1, int(step))
    return [given.low + i * step for i in range(given.count or 0)]


class _RandomChooser:
    """Draws uniformly from the options, the range, or its logarithm."""

    def __init__(self, generator: random.Random) -> None:
        self.generator = generator

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        return self.generator.choice(choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if log:
            return min(high, max(low, round(math.exp(self.generator.uniform(math.log(low), math.log(high))))))
        return self.generator.randrange(low, high + 1, step)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step:
            return min(high, low + self.generator.randint(0, round((high - low) / step)) * step)
        if log:
            return min(high, max(low, math.exp(self.generator.uniform(math.log(low), math.log(high)))))
        return self.generator.uniform(low, high)
