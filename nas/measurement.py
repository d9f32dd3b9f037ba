"""Defines one measured quantity with its spread, and the readings by which a trial is judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Measurement:
    """Holds repeated readings of one quantity, given by median and spread."""

    median: float
    p10: float
    p90: float
    p95: float
    count: int

    @classmethod
    def of(cls, readings: Sequence[float]) -> Self:
        """Raises ValueError when there is no reading or one is not finite."""
        values = np.asarray(readings, dtype=float)
        if not len(values) or not np.isfinite(values).all():
            raise ValueError("a measurement needs at least one reading, and finite ones")
        median, p10, p90, p95 = np.percentile(values, [50, 10, 90, 95])
        return cls(float(median), float(p10), float(p90), float(p95), len(values))

    def metrics(self, name: str) -> dict[str, float]:
        """Returns the names and values that a trial stores: NAME, NAME_p10, NAME_p90, NAME_p95, NAME_count."""
        spread = {f"{name}_{key}": float(getattr(self, key)) for key in ("p10", "p90", "p95", "count")}
        return {name: self.median, **spread}


def at_best_pace(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """Returns the metrics by which a trial is judged: the fastest readings, where other load disturbed the measurement.

    A busy machine makes a good architecture look slow, so such readings decide nothing for good.
    """
    if not metrics.get("contended"):
        return metrics
    best = {name: metrics[f"{name}_best"] for name in metrics if f"{name}_best" in metrics}
    return {**metrics, **best}
