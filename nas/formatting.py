"""Writes numbers, spreads, shares, durations and moments, by one rule each, for terminals, reports and benchmarks."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

ABSENT = "–"
"""Stands where there is no value, or none that is finite."""
DIGITS = 4
LONGEST = 1e15
"""From here on numbers are written with an exponent."""
TENTHS_BELOW = 9.95
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def number(value: float | None) -> str:
    """Writes four significant digits; whole numbers, and those from 1,000 on, in full: 0.8120, 12.35, 12, 1,204,512.

    Below a thousandth, trailing zeros are left out: 0.0003, 1.25e-05.
    """
    if value is None or not math.isfinite(value):
        return ABSENT
    if abs(value) >= LONGEST:
        return f"{value:.{DIGITS}g}"
    if value == round(value) or abs(float(f"{value:.{DIGITS}g}")) >= 10 ** (DIGITS - 1):
        return f"{round(value):,}"
    return f"{value:.{DIGITS}g}" if abs(value) < 1e-3 else f"{value:#.{DIGITS}g}"


def fixed(value: float | None, decimals: int) -> str:
    """Writes always so many decimals, for columns of shares and correlations."""
    return ABSENT if value is None or not math.isfinite(value) else f"{value:.{decimals}f}"


def percent(share: float | None, decimals: int = 0) -> str:
    """Writes a share as a percentage: 0.25 → 25 %."""
    return ABSENT if share is None or not math.isfinite(share) else f"{100 * share:.{decimals}f} %"


def span(low: float, high: float) -> str:
    """Writes two numbers with a dash between them: 0.7884–0.9227."""
    return f"{number(low)}–{number(high)}"


def spread(metrics: Mapping[str, float], name: str) -> str:
    """Writes the 10th to the 90th percentile of a measured metric; empty for one that has no spread."""
    low, high = metrics.get(f"{name}_p10"), metrics.get(f"{name}_p90")
    return "" if low is None or high is None else span(low, high)


def plus_minus(half: float) -> str:
    """Writes the half of an interval with two significant digits: ±0.012, ±5.0, ±120."""
    if half == 0 or abs(half) >= 10:
        return f"±{float(f'{half:.2g}'):,.0f}"
    return f"±{half:#.2g}"


def with_half(mean: float, half: float | None) -> str:
    """Writes a number with the half of its interval, to the same decimal: 0.0207 ±0.0055; alone where there is none."""
    if not half:
        return number(mean)
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return f"{mean:,.{decimals}f} {plus_minus(half)}"


def duration(seconds: float | None) -> str:
    """Writes the two largest units, the smaller left out where it is 0: 8.2 s, 12 s, 4 min 10 s, 2 h, 3 d 1 h."""
    if seconds is None or not math.isfinite(seconds):
        return ABSENT
    if 0 < seconds < TENTHS_BELOW:
        return f"{seconds:.1f} s"
    left = max(0, round(seconds))
    for i, (size, unit) in enumerate(UNITS[:-1]):
        if left >= size:
            smaller, name = UNITS[i + 1]
            rest = left % size // smaller
            return f"{left // size:,} {unit}" + (f" {rest} {name}" if rest else "")
    return f"{left} s"


def moment(unix: float) -> str:
    """Writes Unix seconds as a date and a time, the same on every machine: 2026-11-30 06:31 UTC."""
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M} UTC"


def one_line(parameters: Mapping[str, Any]) -> str:
    """Writes parameters in one line: activation tanh, alpha 0.001234, hidden 64."""
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in parameters.items())
