"""Defines a rung as plain data: a training budget that a training has reached, and what was measured there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Rung:
    """Holds a training budget that the trial reached: after `step` steps and `seconds` of training."""

    step: int
    seconds: float
    metrics: Mapping[str, float]

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> Self:
        """Returns the rung that a row or a checkpoint holds, as plain data."""
        return cls(**stored)


def rungs_of(attributes: Mapping[str, Any]) -> tuple[Rung, ...]:
    """Returns the rungs in a row's attributes or a checkpoint's progress, in the order in which they were reached."""
    return tuple(map(Rung.from_stored, attributes.get("rungs", ())))
