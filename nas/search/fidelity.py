"""What a value at a rung says of the value after all training: y_full ≈ a + ρ · y_rung, for each rung.

The first-order autoregressive model of Kennedy & O'Hagan 2000 (Biometrika 87, 1), from cheap to costly: the trials that
were trained to the end and told that rung settle a and ρ, and their residuals how far it can be trusted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

FEWEST_FOR_SLOPE = 5


@dataclass
class Curves:
    """The rungs of one objective: values of finished trials by budget, gathered one after the other."""

    pairs: dict[float, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, rungs: Mapping[float, float], final: float) -> None:
        """A trial that was trained to the end: its values by budget, and the last one."""
        for budget, value in rungs.items():
            self.pairs.setdefault(budget, []).append((value, final))

    def extrapolate(self, budget: float, value: float) -> tuple[float, float] | None:
        """(expected final value, standard deviation); None where fewer than two trials tell of that rung."""
        pairs = self.pairs.get(budget, ())
        if len(pairs) < 2:
            return None
        at_rung, final = np.array(pairs).T
        slope = _slope(at_rung, final)
        offset = float((final - slope * at_rung).mean())
        residual = final - slope * at_rung - offset
        freedom = len(pairs) - (2 if slope != 1.0 else 1)
        spread = float(np.sqrt((residual**2).sum() / freedom))
        return offset + slope * value, max(spread, 1e-9)


def _slope(at_rung: Sequence[float] | np.ndarray, final: Sequence[float] | np.ndarray) -> float:
    """Least squares, from 0 to 1.5; 1 while few trials tell."""
    spread = float(np.var(at_rung))
    if len(at_rung) < FEWEST_FOR_SLOPE or spread == 0.0:
        return 1.0
    return float(np.clip(np.cov(at_rung, final, bias=True)[0, 1] / spread, 0.0, 1.5))
