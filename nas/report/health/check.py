"""Defines what a check of a search tells, and the intervals that checks give with their numbers."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nas.formatting import fixed

NORMAL_95 = 1.959964


class Verdict(StrEnum):
    """Names the outcomes of a check."""

    OK = "ok"
    LOOK = "look"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Check:
    """Holds one check: its name, its verdict, what was found in a sentence or two, and the same as plain numbers."""

    name: str
    verdict: Verdict
    text: str
    numbers: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.name}: {self.verdict}. {self.text}"

    def data(self) -> dict[str, Any]:
        """Returns the check as plain values."""
        return {"name": self.name, "verdict": str(self.verdict), "text": self.text, "numbers": dict(self.numbers)}


@dataclass(frozen=True)
class Health:
    """Holds all checks of a study. It is a sequence of them, and `health["stopping"]` gives one by its name."""

    checks: tuple[Check, ...]

    def __iter__(self) -> Iterator[Check]:
        return iter(self.checks)

    def __len__(self) -> int:
        return len(self.checks)

    def __getitem__(self, name: str) -> Check:
        """Returns the check of that name. Raises KeyError."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def with_verdict(self, verdict: Verdict) -> list[Check]:
        return [check for check in self.checks if check.verdict is verdict]

    def shortly(self) -> list[str]:
        """Returns the lines that end a search on a terminal: what to look at; none where there is nothing."""
        found = self.with_verdict(Verdict.LOOK)
        unknown = len(self.with_verdict(Verdict.UNKNOWN))
        more = f"{unknown} of {len(self)} checks cannot tell yet; the report has all." if unknown else ""
        return [*(f"look: {check.name}: {check.text}" for check in found), *([more] if found and more else [])]

    def __str__(self) -> str:
        return "\n".join(map(str, self.checks))


@dataclass(frozen=True)
class Interval:
    """Holds a 95 % interval."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{fixed(self.low, 2)} to {fixed(self.high, 2)}".replace("-", "−")


def share_interval(count: int, of: int) -> Interval:
    """Returns the exact interval of a share (Clopper and Pearson 1934, Biometrika 26)."""
    from scipy.special import betaincinv

    if of == 0:
        return Interval(0.0, 1.0)
    low = 0.0 if count == 0 else float(betaincinv(count, of - count + 1, 0.025))
    return Interval(low, 1.0 if count == of else float(betaincinv(count + 1, of - count, 0.975)))


def rank_interval(rho: float, count: int, classes: int = 1) -> Interval:
    """Returns the interval of a rank correlation, by Fisher's z with the error of Bonett and Wright (2000,
    Psychometrika 65): √((1 + ρ² / 2) / (n − 3)). Ranks within `classes` have one degree of freedom less for each
    further class.
    """
    freedom = count - 2 - classes
    if freedom < 1:
        return Interval(-1.0, 1.0)
    z, half = math.atanh(min(max(rho, -0.999999), 0.999999)), NORMAL_95 * math.sqrt((1 + rho**2 / 2) / freedom)
    return Interval(math.tanh(z - half), math.tanh(z + half))


def beyond(count: int, of: int, promised: float) -> float:
    """Returns the probability of so many or more, if each has the promised one."""
    from scipy.special import bdtrc

    return float(bdtrc(count - 1, of, promised)) if count else 1.0
