"""Finds the largest architecture of a space by some measure, such as the memory that its training takes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nas.architecture import Architecture, Family
from nas.space.architecture_space import Space
from nas.space.settings import SpaceSettings

SIZES = ("hidden", "depth", "repeat")
"""Choices whose largest number is taken as it is, since more of it never makes a model smaller."""


def largest(spaces: Mapping[Family, SpaceSettings], size: Callable[[Architecture], float]) -> Architecture:
    """Chooses the option with the largest result, one choice after another, while later choices stay at their last one.

    The blocks of a stack are chosen alike, also in a space of mixed stacks, since their sizes add up. Time: as many
    calls of `size` as the space has options, not architectures. Where the best options of two choices depend on each
    other, a somewhat larger architecture may be missed.
    """
    space = Space({family: table.model_copy(update={"mixed": False}) for family, table in spaces.items()})
    chosen = dict[str, Any]()
    while True:
        trial = _Partial(chosen)
        architecture = space.suggest(trial)
        if trial.open is None:
            return architecture
        name, options = trial.open
        if name.rpartition(".")[2].removeprefix("encoder_") in SIZES:
            chosen[name] = options[-1]
        else:
            found = {option: space.suggest(_Partial({**chosen, name: option})) for option in options}
            chosen[name] = max(options, key=lambda option: size(found[option]))


class _Partial:
    """Makes the choices that are given, and takes the last option of all others; `open` is the first of these."""

    def __init__(self, chosen: Mapping[str, Any]) -> None:
        self.chosen = chosen
        self.open: tuple[str, Sequence[Any]] | None = None

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        if name in self.chosen:
            return self.chosen[name]
        self.open = self.open or (name, choices)
        return choices[-1]
