"""Scores candidates by their expected hypervolume improvement, relative to their cost and to the limits.

Shapes: N points near the front, C candidates, M objectives, D features.
"""

from collections.abc import Sequence

import numpy as np

from nas.samplers.candidates import Candidate
from nas.samplers.hypervolume_improvement import Exact, LogNormal, expected_improvement
from nas.samplers.point_sets import Floats, reference_point
from nas.samplers.study_model import StudyModel


def log_positive(improvement_C: Floats) -> Floats:
    """Returns logarithms; −∞ where there is no improvement."""
    with np.errstate(divide="ignore"):
        log_C: Floats = np.log(np.maximum(improvement_C, 0.0))
    return log_C


class Scorer:
    """Scores candidates by their expected hypervolume improvement, relative to their cost."""

    def __init__(self, model: StudyModel) -> None:
        self.model, self.surrogates = model, model.surrogates()
        self.front_NM, self.reference_M = model.front(self.surrogates), self._reference()

    def scores(self, pool: Sequence[Candidate]) -> Floats:
        """Returns (C,), logarithms; −∞ for candidates that cannot improve on the front."""
        rows_CD = self.model.design.rows(pool)
        improvement_C = expected_improvement(self._beliefs(pool, rows_CD), self.front_NM, self.reference_M)
        return log_positive(improvement_C) - np.log(self.model.cost(pool, rows_CD)) + self.model.log_feasible(rows_CD)

    def expected(self, candidate: Candidate) -> list[float]:
        """Returns the expected values of its objectives."""
        beliefs = self._beliefs([candidate], self.model.design.rows([candidate]))
        return self.model.history.external([float(belief.mean()[0]) for belief in beliefs])

    def _beliefs(self, pool: Sequence[Candidate], rows_CD: Floats) -> list[Exact | LogNormal]:
        return [
            self.surrogates[m].predict(rows_CD) if m in self.surrogates else Exact(self.model.cheap_values(m, pool))
            for m in range(len(self.model.history.directions))
        ]

    def _reference(self) -> Floats:
        """Returns a point beyond the worst known value of each objective, since a trial that is worst in one may be
        best in another.
        """
        history, scales = self.model.history, self.model.scales()
        values_NM = history.values_NM[history.complete_N]
        columns = [scale.apply(self.model.with_base(m, values_NM[:, m])) for m, scale in enumerate(scales)]
        return reference_point(np.array([c.min() for c in columns]), np.array([c.max() for c in columns]))
