"""Makes choices: it asks a trial, replays a script, or finds the choices of a given architecture again.

A choice has a name, options, and a lookup that finds its value in an architecture. The options under one name never
change within a study, as Optuna demands. A choice with only one option is not asked.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Protocol

from nas.architecture import Architecture


class Chooser(Protocol):
    """Describes the part of an Optuna trial that a space needs."""

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any: ...


class RandomChooser:
    """Makes uniform choices from a generator; `params` holds what was chosen."""

    def __init__(self, generator: random.Random) -> None:
        self.generator = generator
        self.params: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        self.params[name] = self.generator.choice(choices)
        return self.params[name]


class Script:
    """Replays a list of choice indexes, then takes first choices; `sizes` holds how many options each choice had."""

    def __init__(self, indexes: Sequence[int]) -> None:
        self.indexes, self.sizes = list(indexes), list[int]()
        self.params: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        if len(self.sizes) == len(self.indexes):
            self.indexes.append(0)
        self.params[name] = choices[self.indexes[len(self.sizes)]]
        self.sizes.append(len(choices))
        return self.params[name]

    def following(self) -> list[int] | None:
        """Returns the indexes of the next choices in order; None after the last."""
        indexes = self.indexes
        while indexes and indexes[-1] == self.sizes[len(indexes) - 1] - 1:
            indexes = indexes[:-1]
        return [*indexes[:-1], indexes[-1] + 1] if indexes else None


Lookup = Callable[[Architecture], Any]
"""Finds the value of a choice in an architecture."""


class Picker(Protocol):
    """Picks one of the options; `lookup` finds an architecture's value of the choice."""

    def pick(self, name: str, options: Sequence[Any], lookup: Lookup) -> Any: ...

    def under(self, prefix: str) -> "Picker":
        """Returns a chooser that puts a prefix before every name."""


class ChoicePicker:
    """Asks a chooser, where there is anything to choose. `prefix` stands before every name."""

    def __init__(self, chooser: Chooser, prefix: str = "") -> None:
        self.chooser, self.prefix = chooser, prefix

    def pick(self, name: str, options: Sequence[Any], lookup: Lookup) -> Any:
        return options[0] if len(options) == 1 else self.chooser.suggest_categorical(self.prefix + name, options)

    def under(self, prefix: str) -> "ChoicePicker":
        return ChoicePicker(self.chooser, prefix)


class ReplayPicker:
    """Picks the options of one given architecture, and records them in `params`. Raises LookupError where it cannot."""

    def __init__(self, architecture: Architecture, params: dict[str, Any], prefix: str = "") -> None:
        self.architecture, self.params, self.prefix = architecture, params, prefix

    def pick(self, name: str, options: Sequence[Any], lookup: Lookup) -> Any:
        value = lookup(self.architecture)
        if value not in options:
            raise LookupError(name)
        if len(options) > 1:
            self.params[self.prefix + name] = value
        return value

    def under(self, prefix: str) -> "ReplayPicker":
        return ReplayPicker(self.architecture, self.params, prefix)


Choices = tuple[tuple[str, Any], ...]


@dataclass
class _Place:
    """Holds a place on the way through a table: what was chosen, and what is picked next.

    `following` holds the places after each value.
    """

    chosen: Choices
    column: str | None
    marks: str
    options: list[Any]
    row: Mapping[str, Any]
    """The first row that is left."""
    following: "dict[Any, _Place]" = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)

    def named(self, name: str) -> str:
        """Returns the name of the column in that form, with its marks."""
        if name not in self._names:
            self._names[name] = name.format(self.column) + self.marks
        return self._names[name]


class CombinationTable:
    """Holds valid combinations of named values, picked column by column among the rows that are left.

    Columns whose values only belong to the result (`spec`, `rest`) are given as objects and never picked.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self.rows = list(rows)
        self.columns = [name for name in self.rows[0] if name not in ("spec", "rest")] if self.rows else []
        # A search draws hundreds of architectures for each that it trains, with the same few beginnings.
        self._marks, self._left = cache(self._find_marks), cache(self._find_left)
        self._beginnings: dict[Choices, _Place] = {}

    def pick(
        self, picker: Picker, given: Mapping[str, Any], name: str, lookup: Callable[[Architecture, str], Any]
    ) -> Mapping[str, Any]:
        """Picks a row, out of those with the given values; `name` has a place for the column's name."""
        beginning = tuple(given.items())
        place = self._beginnings.get(beginning)
        if place is None:
            place = self._beginnings[beginning] = self._place(beginning)
        while place.column is not None:
            value = picker.pick(place.named(name), place.options, partial(_look, lookup, place.column))
            following = place.following.get(value)
            if following is None:
                following = place.following[value] = self._place((*place.chosen, (place.column, value)))
            place = following
        return place.row

    def _place(self, chosen: Choices) -> "_Place":
        """Returns what is to be picked after these choices: the next column, or nothing but the row that is left."""
        column = next((c for c in self.columns if c not in dict(chosen)), None)
        marks, options = self._offer(column, chosen) if column is not None else ("", [])
        return _Place(chosen, column, marks, options, self._left(chosen)[0])

    def _offer(self, column: str, chosen: Choices) -> tuple[str, list[Any]]:
        """Returns what is added to the column's name after these choices, and the values left to it."""
        values = dict(chosen)
        marks = ",".join(f"{key}={values[key]}" for key in self._marks(column, tuple(values)))
        offered = {row[column] for row in self._left(chosen)}
        return f"@{marks}" if marks else "", [value for value in self._order(column) if value in offered]

    def _find_left(self, chosen: Choices) -> list[Mapping[str, Any]]:
        return [row for row in self.rows if all(row[key] == value for key, value in chosen)]

    def _order(self, column: str) -> list[Any]:
        """Returns the column's values: numbers by size, others in the order of the file."""
        values = list(dict.fromkeys(row[column] for row in self.rows))
        numbers = all(isinstance(value, (int, float)) for value in values)
        return sorted(values) if numbers else values

    def _find_marks(self, column: str, earlier: tuple[str, ...]) -> tuple[str, ...]:
        """Finds the fewest earlier choices that determine the values on offer."""
        offered: dict[tuple[Any, ...], set[Any]] = {}
        for row in self.rows:
            offered.setdefault(tuple(row[key] for key in earlier), set()).add(row[column])
        for count in range(len(earlier)):
            for subset in itertools.combinations(range(len(earlier)), count):
                groups: dict[tuple[Any, ...], set[frozenset[Any]]] = {}
                for values, options in offered.items():
                    groups.setdefault(tuple(values[i] for i in subset), set()).add(frozenset(options))
                if all(len(group) == 1 for group in groups.values()):
                    return tuple(earlier[i] for i in subset)
        return earlier


def _look(lookup: Callable[[Architecture, str], Any], column: str, architecture: Architecture) -> Any:
    return lookup(architecture, column)
