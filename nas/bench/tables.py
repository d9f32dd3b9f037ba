"""Holds tabulated benchmarks: the results of training every configuration of a space, so that a training is a look-up.

C configurations, R rows, M objectives. A row is one training of one configuration. Rows with the same parameters are
repeated measurements of it, and their mean counts as its true value.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError, nearest
from nas.pareto import Floats, as_minimised, front, hypervolume
from nas.results import Objective

Value = int | float | str
Columns: TypeAlias = Mapping[str, Sequence[object]]
"""A table as it was read: the cells of every column, all of one length."""


class Suggests(Protocol):
    """Draws the choices of a configuration, as an Optuna trial does."""

    def suggest_int(self, name: str, low: int, high: int) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Any: ...


@dataclass(frozen=True)
class Column(Objective):
    """Makes an objective of the column `metric`. `cheap`: known without training, to samplers that can use that."""

    cheap: bool = False


@dataclass(frozen=True)
class Training:
    """Holds one row: the objectives in their own units, and the row's cost (0 without a column of costs)."""

    values: tuple[float, ...]
    cost: float


@dataclass(frozen=True)
class Table:
    """Holds a benchmark. Rows are sorted by configuration: those of number c are first_C[c] up to first_C[c + 1]."""

    name: str
    params: Mapping[str, tuple[Value, ...]]
    """Each parameter with its values, sorted."""
    objectives: tuple[Column, ...]
    numbers: Mapping[tuple[Value, ...], int]
    """The number of a configuration, by its values in the order of `params`."""
    first_C: NDArray[np.int64]
    values_RM: Floats
    cost: str | None
    """The column of what a training costs, if one was named."""
    cost_R: Floats

    @property
    def space_size(self) -> int:
        """Counts the combinations of the parameters' values, those that the table lacks included."""
        return math.prod(map(len, self.params.values()))

    @property
    def goals(self) -> tuple[str, ...]:
        return tuple(objective.goal for objective in self.objectives)

    @cached_property
    def means_CM(self) -> Floats:
        """Returns the means over all rows of a configuration, which are its true objectives."""
        starts, counts = self.first_C[:-1], np.diff(self.first_C)
        base = self.values_RM[starts]  # the mean of equal rows is exactly their value, however many they are
        off = np.add.reduceat(self.values_RM - np.repeat(base, counts, axis=0), starts)
        means: Floats = base + off / counts[:, None]
        return means

    @cached_property
    def scaled_CM(self) -> Floats:
        """Returns the means with 0 for the best of the table and 1 for the worst; 0 everywhere where all are equal."""
        means = as_minimised(self.means_CM, self.goals)
        best, worst = means.min(axis=0), means.max(axis=0)
        scaled: Floats = (means - best) / np.where(worst > best, worst - best, 1.0)
        return scaled

    @cached_property
    def volume(self) -> float:
        """Returns the hypervolume of the true front, in scaled objectives, up to the reference point (1, ..., 1)."""
        return self._volume(range(len(self.numbers)))

    def suggest(self, trial: Suggests) -> dict[str, Value]:
        """Draws a configuration, which the table may lack, with the same calls for every sampler.

        Consecutive integers are an integer parameter, everything else a categorical one, since values between two
        numbers that are not neighbours cannot be looked up.
        """
        integers = self._integers
        return {
            name: trial.suggest_int(name, *integers[name])
            if name in integers
            else trial.suggest_categorical(name, values)
            for name, values in self.params.items()
        }

    @cached_property
    def _integers(self) -> dict[str, tuple[int, int]]:
        """Returns the least and the largest value of the integer parameters."""
        return {name: (int(v[0]), int(v[-1])) for name, v in self.params.items() if consecutive(v)}

    def find(self, params: Mapping[str, Any]) -> int | None:
        """Returns the number of that configuration, or None when the table lacks it."""
        return self.numbers.get(tuple(params[name] for name in self.params))

    def train(self, configuration: int, seed: int, time: int) -> Training:
        """Returns the row of a configuration's `time`-th training, the same for every sampler with that seed."""
        first, end = self.first_C[configuration : configuration + 2]
        row = np.random.default_rng((seed, configuration, time)).integers(first, end)
        return Training(tuple(self.values_RM[row].tolist()), float(self.cost_R[row]))

    def known(self, params: Mapping[str, Any], objective: int) -> float:
        """Returns the mean of an objective without training; NaN for a configuration that the table lacks."""
        configuration = self.find(params)
        return math.nan if configuration is None else float(self.means_CM[configuration, objective])

    def ratio(self, configurations: Iterable[int]) -> float:
        """Returns the share of the true front's hypervolume that the means of these configurations dominate, 0 to 1."""
        return self._volume(sorted(set(configurations))) / self.volume

    def _volume(self, configurations: Sequence[int]) -> float:
        # Only the front counts, in the order of the table, so that the whole front has exactly its volume.
        scaled = self.scaled_CM[configurations]
        goals = ["min"] * len(self.objectives)
        return hypervolume(scaled[front(scaled, goals)], goals, [1.0] * len(goals))


def consecutive(values: Sequence[Value]) -> bool:
    """Tells whether sorted values are integers without a gap."""
    integers = [value for value in values if isinstance(value, int)]
    return len(integers) == len(values) == integers[-1] - integers[0] + 1


def build(
    name: str, columns: Columns, params: Sequence[str], objectives: Sequence[Column], cost: str | None = None
) -> Table:
    """Builds the benchmark in these cells. `name` is the place that errors name.

    Raises UsageError for a column that is missing, a parameter that is an objective, a cell that cannot be used (with
    its row, counted from 1 below the headings), and a table whose front has no volume.
    """
    goals = [objective.metric for objective in objectives]
    _check_columns(name, columns, params, goals, cost)
    cells = {param: _values(columns[param], f"{name}, column '{param}'") for param in params}
    values = {param: tuple(sorted(set(found))) for param, found in cells.items()}
    numbers = {key: number for number, key in enumerate(sorted(set(zip(*cells.values(), strict=True))))}
    number_R = [numbers[key] for key in zip(*cells.values(), strict=True)]
    order = np.argsort(number_R, kind="stable")
    figures = [_figures(columns[column], f"{name}, column '{column}'") for column in goals]
    table = Table(
        name=name,
        params=values,
        objectives=tuple(objectives),
        numbers=numbers,
        first_C=np.concatenate([[0], np.cumsum(np.bincount(number_R))]),
        values_RM=np.array(figures).T[order],
        cost=cost,
        cost_R=(_figures(columns[cost], f"{name}, column '{cost}'") if cost else np.zeros(len(order)))[order],
    )
    if not table.volume:
        detail = "no configuration is better than the worst in every objective: the front dominates no volume"
        raise UsageError("samplers cannot be told apart on this table", where=name, detail=detail)
    return table


def _check_columns(name: str, columns: Columns, params: Sequence[str], goals: Sequence[str], cost: str | None) -> None:
    for option, wanted in (("--params", params), ("--objectives", goals), ("--cost", [cost] if cost else [])):
        for column in wanted:
            if column not in columns:
                where = f"{option}, {name}"
                raise UsageError(f"the table has no column '{column}'", where=where, help=nearest(column, columns))
    if both := [column for column in params if column in goals]:
        help = "leave it out of --params or of --objectives"
        raise UsageError(f"'{both[0]}' is a parameter and an objective", where=name, help=help)


def _values(cells: Sequence[object], where: str) -> list[Value]:
    """Reads the values of a parameter: integers where all are whole, else floats where all are numbers, else text."""
    texts = ["" if cell is None or cell != cell else str(cell) for cell in cells]
    if "" in texts:
        raise UsageError("a parameter has no value", where=f"{where}, row {texts.index('') + 1}")
    numbers = [_number(text) for text in texts]
    if not all(map(math.isfinite, numbers)):
        return list(texts)
    if all(number.is_integer() for number in numbers):
        return [int(number) for number in numbers]
    return list(numbers)


def _figures(cells: Sequence[object], where: str) -> Floats:
    numbers = np.array([_number(str(cell)) for cell in cells])
    if len(bad := np.flatnonzero(~np.isfinite(numbers))):
        row = int(bad[0])
        message = f"expected a finite number, got '{cells[row]}'"
        raise UsageError(message, where=f"{where}, row {row + 1}", help="correct the cell, or leave the row out")
    return numbers


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
