"""Encodes parameters as numbers for a surrogate: numbers as they are, one column for each option, nothing where absent.

Columns are scaled so that each parameter has about variance 1 over the space, however many columns it takes.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from nas.samplers.candidates import Candidate, Key
from nas.samplers.point_sets import Floats

TINY = 1e-300
MOST_CACHED = 20_000
"""The number of candidates whose rows are kept."""


class Encoding:
    """Turns parameters with these distributions into columns, whichever of them depend on others."""

    def __init__(self, distributions: Iterable[Mapping[str, BaseDistribution]]) -> None:
        self.known: dict[str, BaseDistribution] = {}
        for each in distributions:
            self.known |= {name: d for name, d in each.items() if name not in self.known}

    def rows(self, many: Iterable[Mapping[str, Any]]) -> Floats:
        """Returns (N, D), not scaled."""
        return np.array(
            [[v for name, d in self.known.items() for v in _columns(name, d, p)] for p in many], dtype=float
        )

    def scales(self, rows_ND: Floats) -> Floats:
        """Returns what to divide each column by: the spread of its parameter over these rows."""
        variance_D = rows_ND.var(axis=0)
        owner_D = [name for name, d in self.known.items() for _ in _columns(name, d, {})]
        total = {name: sum(v for v, o in zip(variance_D, owner_D, strict=True) if o == name) for name in self.known}
        return np.array([math.sqrt(total[name]) or 1.0 for name in owner_D])


class CandidateRows:
    """Turns candidates into rows of numbers, each once.

    Parameters are scaled over a yardstick. Own features (`custom`, from a candidate's configuration) are taken as they
    are. `version` rises when an unknown parameter appears.
    """

    def __init__(self, custom: Callable[[Any], Sequence[float]] | None) -> None:
        self.custom, self.version = custom, 0
        self._yardstick: Sequence[Candidate] = ()
        self._encoding = Encoding([])
        self._rows: dict[Key, Floats] = {}
        self._scale_D: Floats = np.ones(())

    def scale_over(self, yardstick: Sequence[Candidate]) -> None:
        """Scales over these candidates from now on."""
        self._yardstick = yardstick
        self.of(yardstick)

    def of(self, candidates: Sequence[Candidate]) -> Floats:
        """Returns (C, D), for at least one candidate."""
        if self.custom is None:
            self._add_columns(candidates)
        if len(self._rows) > MOST_CACHED:
            self._rows.clear()
        new = [c for c in candidates if c.key not in self._rows]
        if new:
            self._rows |= {c.key: row for c, row in zip(new, self._raw(new), strict=True)}
        return np.array([self._rows[c.key] for c in candidates]) / self._scale_D

    def _add_columns(self, candidates: Sequence[Candidate]) -> None:
        unknown = [c.distributions for c in candidates if not c.distributions.keys() <= self._encoding.known.keys()]
        if unknown:
            self._encoding = Encoding([self._encoding.known, *unknown])
            self._rows, self.version = {}, self.version + 1
            self._scale_D = self._encoding.scales(self._raw(self._yardstick))

    def _raw(self, candidates: Sequence[Candidate]) -> Floats:
        if self.custom is None:
            return self._encoding.rows(c.params for c in candidates)
        return np.array([self.custom(c.configuration) for c in candidates], dtype=float)


def _columns(name: str, distribution: BaseDistribution, params: Mapping[str, Any]) -> list[float]:
    present = name in params
    if isinstance(distribution, CategoricalDistribution) and not _numeric(distribution):
        return [float(present and params[name] == choice) for choice in distribution.choices]
    if not present:
        return [0.0, 0.0]
    if not isinstance(params[name], (int, float)):
        return [0.0, 0.0]  # of a trial that had other choices under that name
    value = float(params[name])
    if isinstance(distribution, CategoricalDistribution):
        numbers = [float(choice) for choice in distribution.choices if isinstance(choice, (int, float))]
        low, high, log = min(numbers), max(numbers), min(numbers) > 0
    else:
        low, high, log = distribution.low, distribution.high, distribution.log  # type: ignore[attr-defined]
    if log:
        low, high, value = math.log(low), math.log(high), math.log(max(value, TINY))
    return [1.0, 0.5 + (value - low) / (high - low)] if high > low else [1.0, 0.5]


def _numeric(distribution: CategoricalDistribution) -> bool:
    return all(
        isinstance(c, (int, float)) and not isinstance(c, bool) and math.isfinite(c) for c in distribution.choices
    )
