"""Serves tables that sample a space far larger than themselves, where nearly every combination of values is missing.

Proposals of a sampler that takes a space function are rows of the table. A proposal of any other sampler that the table
lacks counts as the nearest row that is not trained yet. The distance of two configurations is the sum over their
parameters: of choices 1 where they differ, of numbers their difference as a share of the table's range.
"""

import random
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas.bench.tables import Table, Value, consecutive
from nas.pareto import Floats
from nas.samplers.candidates import RandomChooser

DENSE_FROM = 0.5
"""A table that has less than this share of all combinations counts as sparse."""
NEIGHBOURHOOD = 8
"""A neighbour of a row is one of this many nearest ones."""


def is_sparse(table: Table) -> bool:
    """Tells whether most combinations of the table's values are missing from it."""
    return len(table.numbers) < DENSE_FROM * table.space_size


class SparseRows:
    """Finds rows of a table by distance. C configurations, P parameters, F features."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows: list[tuple[Value, ...]] = list(table.numbers)
        self.distributions = distributions(table)

    @cached_property
    def feature_CP(self) -> Floats:
        return np.array([self._features(row) for row in self.rows])

    @cached_property
    def _scales(self) -> list[float | None]:
        """Returns the range of each parameter that is a number; None for a choice."""
        numbers = [all(isinstance(value, (int, float)) for value in values) for values in self.table.params.values()]
        ranges = [
            float(values[-1]) - float(values[0]) if is_number else None
            for values, is_number in zip(self.table.params.values(), numbers, strict=True)
        ]
        return [1.0 if width == 0 else width for width in ranges]

    def _features(self, row: Collection[Value]) -> list[float]:
        """Returns a number for each parameter: its share of the range, or the place of the choice."""
        params = zip(row, self._scales, self.table.params.values(), strict=True)
        return [values.index(value) if scale is None else float(value) / scale for value, scale, values in params]

    def distances(self, params: Mapping[str, Any]) -> Floats:
        """Returns the distance of every row from these parameters; those that are not given do not count."""
        total_C = np.zeros(len(self.rows))
        for i, (name, values) in enumerate(self.table.params.items()):
            if name not in params:
                continue
            column_C, scale = self.feature_CP[:, i], self._scales[i]
            if scale is None:
                total_C += column_C != values.index(params[name])
            else:
                total_C += np.abs(column_C - float(params[name]) / scale)
        return total_C

    def nearest(self, params: Mapping[str, Any], trained: Collection[int]) -> int:
        """Returns the number of the nearest row that is not trained; of all rows where every one is."""
        away_C = self.distances(params)
        if len(trained) < len(self.rows):
            away_C[list(trained)] = np.inf
        return int(away_C.argmin())

    def space(self, chooser: RandomChooser) -> Mapping[str, Any]:
        """Chooses a row: the one that is wanted, a neighbour of what is wanted in part, or any."""
        names = list(self.table.params)
        wanted = {name: value for name, value in chooser.wanted.items() if name in self.table.params}
        if len(wanted) == len(names):
            number = self.nearest(wanted, ())
        elif wanted:
            number = self._neighbour(wanted, chooser.generator)
        else:
            number = chooser.generator.randrange(len(self.rows))
        for name, value in zip(names, self.rows[number], strict=True):
            chooser.take(name, self.distributions[name], value)
        return chooser.params

    def _neighbour(self, wanted: Mapping[str, Any], generator: random.Random) -> int:
        """Draws one of the rows that are nearest, but for the very nearest: that is where the search already is."""
        away_C = self.distances(wanted) + np.random.default_rng(generator.getrandbits(32)).uniform(
            0, 1e-9, len(self.rows)
        )
        near = np.argsort(away_C)[1 : 1 + NEIGHBOURHOOD].tolist() or [0]
        return int(generator.choice(near))


def distributions(table: Table) -> dict[str, BaseDistribution]:
    """Returns what `Table.suggest` asks an Optuna trial for."""
    return {
        name: IntDistribution(int(values[0]), int(values[-1]))
        if consecutive(values)
        else CategoricalDistribution(values)
        for name, values in table.params.items()
    }


class RandomRows(BaseSampler):
    """Proposes the rows of a table in random order, each once before any comes again."""

    def __init__(self, rows: SparseRows, seed: int) -> None:
        self.rows, self.order = rows, list(range(len(rows.rows)))
        random.Random(f"{seed}:rows").shuffle(self.order)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.rows.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        row = self.rows.rows[self.order[trial.number % len(self.order)]]
        return dict(zip(self.rows.table.params, row, strict=True))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draws a parameter that the table lacks; `Table.suggest` asks for none."""
        return RandomChooser(random.Random(trial.number)).choose(param_name, param_distribution)
