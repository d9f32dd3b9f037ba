"""Measures how well trials were ranked before they were trained: by the sampler's predictions, and by size alone.

Each prediction was made when the trial was proposed, from earlier trials only, so none has seen the result that it is
compared with.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from nas.results import Objective, State, StudyRecord

FEWEST = 8
"""With fewer trials a correlation says nothing."""


@dataclass(frozen=True)
class Correlation:
    """Holds Spearman's correlation, from −1 to 1; None for fewer than `FEWEST` trials or for a constant side."""

    rho: float | None
    trials: int

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]]) -> Self:
        xs, ys = {x for x, _ in pairs}, {y for _, y in pairs}
        if len(pairs) < FEWEST or len(xs) < 2 or len(ys) < 2:
            return cls(None, len(pairs))
        from scipy.stats import spearmanr  # a second to load

        return cls(float(spearmanr(pairs).statistic), len(pairs))


@dataclass(frozen=True)
class Ranking:
    """Holds the ranking of one objective, over the trials with a prediction that were then trained in full."""

    objective: Objective
    predicted: Correlation
    """The correlation of prediction and result, both in the objective's own unit: positive is right for either goal."""
    params: Correlation
    """The correlation of the number of parameters with the result, over the same trials: the sign tells the
    direction.
    """
    known: bool
    """True where the value was computed exactly, not predicted."""

    @classmethod
    def of(cls, record: StudyRecord, objective: Objective) -> Self:
        name = objective.metric
        held = [
            (trial.predicted[name], trial.metrics.get("params", math.nan), trial.metrics[name])
            for trial in record.trials
            if trial.state is State.COMPLETE
            and math.isfinite(trial.predicted.get(name, math.nan))
            and math.isfinite(trial.metrics.get(name, math.nan))
        ]
        return cls(
            objective,
            predicted=Correlation.of([(guess, truth) for guess, _, truth in held]),
            params=Correlation.of([(size, truth) for _, size, truth in held if math.isfinite(size)]),
            known=bool(held) and all(math.isclose(guess, truth, rel_tol=1e-6) for guess, _, truth in held),
        )


def rankings(record: StudyRecord) -> list[Ranking]:
    """Returns one ranking for each objective; none where no model ever proposed a trial."""
    return [Ranking.of(record, o) for o in record.objectives] if any(t.predicted for t in record.trials) else []
