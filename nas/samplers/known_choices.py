"""Draws values of distributions fast: what is drawn again and again is prepared once.

A pool of candidates asks for the same parameters thousands of times. So each distribution is built once, with a
function that draws from it. The draws are those of `random.Random`'s own methods, number for number.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

PLAIN = (str, int, float, bool, type(None))
MOST_HELD = 1024
"""Numbers of a range that are kept ready; a longer range computes them."""
Draw = Callable[[random.Random], Any]
"""Draws a value uniform over the options, the range, or its logarithm."""
Range = tuple[Any, Any, Any, bool]
"""Low, high, step and log."""
KnownRange = tuple[Range, BaseDistribution, Draw]


class KnownChoices:
    """Keeps the distribution of each parameter by its name, and the function that draws from it."""

    def __init__(self) -> None:
        self.choices: dict[str, tuple[Sequence[Any], CategoricalDistribution, Draw]] = {}
        """By name: the options as they were given, the distribution, and its draw."""
        self.integers: dict[str, KnownRange] = {}
        self.floats: dict[str, KnownRange] = {}
        self.others: dict[str, tuple[BaseDistribution, Draw]] = {}
        """By name: a distribution that was given as such, and its draw."""

    def categorical(self, name: str, options: Sequence[Any]) -> tuple[Sequence[Any], CategoricalDistribution, Draw]:
        """Returns the distribution over these options: the last one of that name, if it has the same."""
        known = self.choices.get(name)
        if known is not None and len(known[0]) == len(options) and all(map(_same, known[1].choices, options)):
            return known
        made = CategoricalDistribution(tuple(options))
        # A tuple cannot change, so that the very same one needs no second look; a list may.
        kept = self.choices[name] = (options if isinstance(options, tuple) else made.choices, made, drawing(made))
        return kept

    def integer(self, name: str, asked: Range) -> KnownRange:
        """Returns the integers of that range, and keeps them as the last range of that name."""
        low, high, step, log = asked
        made = IntDistribution(low, high, log=log, step=step)
        kept = self.integers[name] = asked, made, drawing(made)
        return kept

    def float(self, name: str, asked: Range) -> KnownRange:
        """Returns the numbers of that range, and keeps them as the last range of that name."""
        low, high, step, log = asked
        made = FloatDistribution(low, high, log=log, step=step)
        kept = self.floats[name] = asked, made, drawing(made)
        return kept


def _same(known: Any, asked: Any) -> bool:
    """Tells whether two choices are one. Values of different types are not, though True equals 1."""
    return known is asked or (type(known) is type(asked) and isinstance(known, PLAIN) and known == asked)


def drawing(distribution: BaseDistribution) -> Draw:
    """Returns the function that draws from a distribution. Raises TypeError for an unknown kind of it."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return _one_of(choices)
        case IntDistribution(low=low, high=high, log=True):
            real = _of_logarithm(low, high)
            return lambda generator: min(high, max(low, round(real(generator))))
        case IntDistribution(low=low, high=high, step=step):
            return _one_of(range(low, high + 1, step))
        case FloatDistribution(low=low, high=high, log=True):
            return _of_logarithm(low, high)
        case FloatDistribution(low=low, high=high, step=float(step)):
            steps = _one_of(range(round((high - low) / step) + 1))
            return lambda generator: min(high, low + steps(generator) * step)
        case FloatDistribution(low=low, high=high):
            return lambda generator: low + (high - low) * generator.random()
        case _:
            raise TypeError(f"no way to draw from {type(distribution).__name__}")


def _one_of(options: Sequence[Any]) -> Draw:
    """Returns the function that draws one of these as `random.choice` and `random.randrange` do."""
    count, bits = len(options), len(options).bit_length()
    held = tuple(options) if count <= MOST_HELD else options

    def draw(generator: random.Random) -> Any:
        number = generator.getrandbits(bits)
        while number >= count:
            number = generator.getrandbits(bits)
        return held[number]

    return draw


def _of_logarithm(low: float, high: float) -> Draw:
    """Returns the function that draws uniformly from the logarithm; rounding does not leave the range."""
    bottom, width, exp = math.log(low), math.log(high) - math.log(low), math.exp

    def draw(generator: random.Random) -> float:
        value = exp(bottom + width * generator.random())
        return value if low <= value <= high else min(high, max(low, value))

    return draw
