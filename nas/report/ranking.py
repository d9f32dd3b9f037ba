"""Measures how well trials were ranked before they were trained: by what the sampler's model expected, and by size
alone.

Predictions were made when the trial was proposed, from earlier trials only, so none has seen what it is held against.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from nas.results import Objective, State, StudyRecord

FEWEST = 8
"""Trials below which a correlation says nothing."""


@dataclass(frozen=True)
class Correlation:
    """Spearman's, from −1 to 1; None of fewer than `FEWEST` trials, or where one side is the same for all."""

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
    """The correlation of what was expected with what came, both in the objective's own unit: positive is right for
    either goal."""
    params: Correlation
    """The correlation of the number of parameters with what came, over the same trials: the sign tells which way it
    goes."""
    known: bool
    """True where the value was computed, not predicted."""

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
    """One an objective; none where no trial was ever proposed by a model."""
    return [Ranking.of(record, o) for o in record.objectives] if any(t.predicted for t in record.trials) else []
