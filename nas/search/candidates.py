"""Where proposals come from: draws of the space, and neighbours of what is good.

A space is a function that takes a chooser (`suggest_categorical`, `suggest_int`, `suggest_float`, as an Optuna trial
has) and returns what its choices mean. Which choices there are may depend on earlier ones.
"""

import math
import random
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

Space = Callable[[Any], Any]
Key = frozenset[tuple[str, Hashable]]


@dataclass(frozen=True)
class Candidate:
    """One configuration: its parameters, and what the space made of them."""

    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    meaning: Any

    @property
    def key(self) -> Key:
        return key_of(self.params)


def key_of(params: Mapping[str, Any]) -> Key:
    return frozenset(params.items())


class Drawing:
    """A chooser that keeps the parent's choices where they are on offer, each redrawn with the given probability.

    Without a parent all choices are drawn, uniformly over the options, the range, or its logarithm.
    """

    def __init__(self, generator: random.Random, parent: Mapping[str, Any] | None = None, redrawn: float = 1.0) -> None:
        self.generator, self.parent, self.redrawn = generator, parent or {}, redrawn
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.choose(name, CategoricalDistribution(tuple(choices)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        value: int = self.choose(name, IntDistribution(low, high, log=log, step=step))
        return value

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        value: float = self.choose(name, FloatDistribution(low, high, log=log, step=step))
        return value

    def choose(self, name: str, distribution: BaseDistribution) -> Any:
        kept = self.parent.get(name)
        on_offer = name in self.parent and distribution._contains(distribution.to_internal_repr(kept))
        if not on_offer or self.generator.random() < self.redrawn:
            kept = draw(distribution, self.generator)
        self.params[name], self.distributions[name] = kept, distribution
        return kept


def draw(distribution: BaseDistribution, generator: random.Random) -> Any:
    """A uniform value of the distribution."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return generator.choice(choices)
        case IntDistribution(low=low, high=high, log=True):
            return min(high, max(low, round(math.exp(generator.uniform(math.log(low), math.log(high))))))
        case IntDistribution(low=low, high=high, step=step):
            return generator.randrange(low, high + 1, step)
        case FloatDistribution(low=low, high=high, log=True):
            return math.exp(generator.uniform(math.log(low), math.log(high)))
        case FloatDistribution(low=low, high=high, step=step):
            value = generator.uniform(low, high)
            return value if step is None else low + round((value - low) / step) * step
        case _:
            raise TypeError(f"no way to draw from {type(distribution).__name__}")


def drawn(space: Space, chooser: Drawing) -> Candidate:
    """What the space gives when it is asked by this chooser."""
    meaning = space(chooser)
    return Candidate(chooser.params, chooser.distributions, meaning)


def replayed(space: Space, params: Mapping[str, Any]) -> Candidate:
    """The candidate with these parameters."""
    return drawn(space, Drawing(random.Random(0), params, 0.0))


def neighbours(
    space: Space, parents: Sequence[Mapping[str, Any]], count: int, generator: random.Random
) -> Iterable[Candidate]:
    """Each is one of the parents with a choice or two redrawn, in turn."""
    for i in range(count):
        parent = parents[i % len(parents)]
        changes = generator.choice((1.0, 1.0, 2.0))
        yield drawn(space, Drawing(generator, parent, min(1.0, changes / max(1, len(parent)))))


def space_of(trials: Iterable[FrozenTrial]) -> Space:
    """Where no space is told: the parameters of one of the trials, and what they are drawn from."""
    shapes = list({frozenset(t.distributions): t.distributions for t in trials if t.distributions}.values())

    def space(chooser: Drawing) -> Mapping[str, Any]:
        fitting = [shape for shape in shapes if shape.keys() == chooser.parent.keys()]
        shape = fitting[0] if fitting else chooser.generator.choice(shapes)
        for name, distribution in shape.items():
            chooser.choose(name, distribution)
        return chooser.params

    return space
