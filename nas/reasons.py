"""Names the reasons that rows store: why a trial was never trained, ended early, or has no result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self


class Reason(StrEnum):
    """Names why a trial was not trained in full. Rows store the plain string, for `INFEASIBLE` with the metric."""

    INFEASIBLE = "infeasible"
    """PRUNED: it breaks a limit, or is sure to; stored as `infeasible:METRIC` (see `over_limit`)."""
    SKIPPED = "skipped"
    """PRUNED, never trained: a trained architecture dominates even an optimistic forecast of it."""
    DOMINATED = "dominated"
    """PRUNED at a rung: a trained architecture dominates even an optimistic forecast of it."""
    DUPLICATE = "duplicate"
    """PRUNED: the study holds that architecture already."""
    NAN = "nan"
    """FAIL: the loss or an objective is not finite."""
    OOM = "oom"
    """FAIL: out of memory."""
    TIMEOUT = "timeout"
    """FAIL: training took longer than the study file allows."""
    ERROR = "error"
    """FAIL: an exception, kept in `detail`."""
    STALE = "stale"
    """FAIL: several workers died of it."""

    @classmethod
    def from_stored(cls, stored: str) -> Self | None:
        """Returns the reason that a row stores, for example `infeasible:params`.

        None for no reason, and for an unknown one.
        """
        name = stored.partition(":")[0]
        return next((reason for reason in cls if reason == name), None)


def over_limit(metric: str) -> str:
    """Returns the reason of a trial over its limit on that metric, as rows store it."""
    return f"{Reason.INFEASIBLE}:{metric}"


def cause_of(detail: str) -> str:
    """Returns the last line of a stored detail, which is the exception itself where that is a traceback."""
    lines = detail.strip().splitlines()
    return lines[-1].strip() if lines else ""


@dataclass(frozen=True)
class Verdict:
    """Says that a trial ends early: at which step (0: untrained), why, and over which limits."""

    step: int
    reason: str
    violations: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_stored(cls, attributes: Mapping[str, Any]) -> Self | None:
        """Returns the verdict in a row's attributes; None where the trial continues."""
        stored = attributes.get("verdict")
        return cls(**stored) if stored else None


@dataclass(frozen=True)
class Control:
    """Says what the rules for early endings judged of a trial that they may not end: a baseline, or one in ten.

    Rows store what was judged: `{"skip": true, "stop": 0}`.
    """

    skip: bool | None = None
    """True where it would have been skipped; None while the rule has not judged it."""
    stop: int | None = None
    """The step at which it would have been stopped; 0 where it would have gone on so far, None before the first rung
    that was judged.
    """

    @classmethod
    def from_stored(cls, attributes: Mapping[str, Any]) -> Self:
        """Returns what a row's attributes hold."""
        stored = attributes.get("control", {})
        return cls(stored.get("skip"), stored.get("stop"))

    def stored(self) -> dict[str, Any]:
        """Returns what a row stores."""
        return {name: value for name, value in (("skip", self.skip), ("stop", self.stop)) if value is not None}
