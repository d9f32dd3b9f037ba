"""Proposes a longer training for a trial: its command, and its duration at the search's own pace."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from nas.formatting import duration
from nas.results import TrialResult

LONGER = 10
"""The proposed training is so many times longer: the search has trained its trials already, and the same steps would
give the same model.
"""


@dataclass(frozen=True)
class NextTraining:
    """Holds a proposed training. `seconds` is None where no rung tells how fast the trial trained."""

    number: int
    steps: int
    seconds: float | None

    @classmethod
    def of(cls, trial: TrialResult, settings: Mapping[str, Any]) -> Self | None:
        """Proposes ten times the steps of the search.

        None where `nas train` refuses: with a training of the user's own.
        """
        steps = settings.get("train", {}).get("steps")
        if not steps or not trial.architecture or settings.get("trial", {}).get("body"):
            return None
        pace = trial.rungs[-1].seconds / trial.rungs[-1].step if trial.rungs and trial.rungs[-1].step else math.nan
        return cls(trial.number, LONGER * steps, LONGER * steps * pace if math.isfinite(pace) else None)

    def command(self, study: str) -> str:
        """Returns the command, with the study's name quoted for a shell."""
        return f"nas train {study} {self.number} --steps {self.steps}"

    @property
    def about(self) -> str:
        """Returns the time that it takes, as in `about 40 s`; empty where that is not known."""
        return "" if self.seconds is None else f"about {duration(_rounded(self.seconds))}"

    def __str__(self) -> str:
        return f"Train this architecture for {self.steps:,} steps{f' ({self.about})' if self.about else ''}"


def _rounded(value: float) -> float:
    """Rounds an estimate in seconds, to whole minutes beyond ten of them and to tens of minutes beyond two hours."""
    unit = 600 if value > 7200 else 60 if value > 600 else 1
    return max(1, round(value / unit)) * unit
