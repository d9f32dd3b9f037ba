"""Keeps what the trials of a study have shown at one rung, in arrays by the trials' numbers, for the stopping rule.

Shapes: N trials, M objectives, all minimised.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.results import Objective
from nas.running.learning_curves import Curve, CurveForecaster, Floats

LEAST_ROOM = 64


class NumberedRows:
    """Holds one row of numbers for each trial that has one. A row is at the place of the trial's number."""

    def __init__(self, columns: int) -> None:
        self._rows = np.full((LEAST_ROOM, columns), math.nan)
        self._held = np.zeros(LEAST_ROOM, dtype=bool)

    def put(self, number: int, row: Sequence[float]) -> None:
        if number >= len(self._held):
            more = max(number + 1, 2 * len(self._held)) - len(self._held)
            self._rows = np.concatenate((self._rows, np.full((more, self._rows.shape[1]), math.nan)))
            self._held = np.concatenate((self._held, np.zeros(more, dtype=bool)))
        self._rows[number], self._held[number] = row, True

    def drop(self, number: int) -> None:
        if number < len(self._held):
            self._held[number] = False

    def numbers(self) -> NDArray[np.intp]:
        """Returns the numbers of the trials that have a row, in order."""
        return np.flatnonzero(self._held)

    def rows(self) -> Floats:
        """Returns the rows of these trials, in order."""
        found: Floats = self._rows[self._held]
        return found


class RungTable:
    """Holds the curves of `metrics` up to one rung, and the objectives that are known, of all trials that reached it.

    A trial that is complete but infeasible serves forecasts, and is no peer.
    """

    def __init__(self, metrics: Sequence[str], objectives: int) -> None:
        self.metrics = list(metrics)
        self._curves = {metric: NumberedRows(3) for metric in metrics}  # before, at, end
        self._known = NumberedRows(objectives)
        self._flags = NumberedRows(2)  # complete, peer
        self._forecasters: dict[str, CurveForecaster] = {}

    def put(
        self,
        number: int,
        curves: Mapping[str, Curve],
        finals: Mapping[str, float],
        known_M: Sequence[float],
        complete: bool,
        feasible: bool,
    ) -> None:
        """Takes in a trial. `known_M`: its objectives, minimised, NaN where they are to be forecast."""
        for metric, rows in self._curves.items():
            rows.put(number, (*curves[metric], finals[metric]))
        self._known.put(number, known_M)
        self._flags.put(number, (complete, feasible or not complete))
        if complete:
            self._forecasters.clear()

    def drop(self, number: int) -> None:
        for rows in (*self._curves.values(), self._known, self._flags):
            rows.drop(number)

    def forecaster(self, metric: str) -> CurveForecaster:
        """Returns what forecasts the ends of that metric's curves from this rung."""
        if metric not in self._forecasters:
            complete_N = self._flags.rows()[:, 0] == 1
            self._forecasters[metric] = CurveForecaster(self._curves[metric].rows()[complete_N])
        return self._forecasters[metric]

    def expected(self, objectives: Sequence[Objective]) -> tuple[NDArray[np.intp], Floats]:
        """Returns the numbers of the peers, and their objectives, minimised: true where they are known, else expected.

        Peers of which an objective is neither are left out.
        """
        flag_N2, value_NM = self._flags.rows(), self._known.rows()
        for m, objective in enumerate(objectives):
            if objective.means.cheap:
                continue
            open_N = flag_N2[:, 0] == 0
            told_N = self.forecaster(objective.metric).expected_ends(self._curves[objective.metric].rows()[open_N, :2])
            value_NM[open_N, m] = told_N if objective.goal == "min" else -told_N
        peer_N = (flag_N2[:, 1] == 1) & np.isfinite(value_NM).all(axis=1)
        return self._flags.numbers()[peer_N], value_NM[peer_N]
