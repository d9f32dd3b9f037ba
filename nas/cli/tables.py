"""Lays answers out: tables without lines, in 80 columns, four digits a number. Plain text when redirected."""

import math
import textwrap
import time
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from nas.cli.output import Terminal


def answers() -> Console:
    """The console on standard output."""
    return Terminal()


def table(*columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """A table with these headings; `numbers` are set flush right. Long cells are folded, never cut."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return made


def pairs(rows: Mapping[str, str]) -> Table:
    """Names on the left, what is said of them on the right."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, text in rows.items():
        made.add_row(name, text)
    return made


def heading(metric: str) -> str:
    """The metric's name, broken after underscores to stand over narrow columns."""
    return "\n".join(line.replace(" ", "") for line in textwrap.wrap(metric.replace("_", "_ "), 14))


def number(value: float) -> str:
    """Four significant digits; whole and large numbers in full: 0.8123, 12.35, 1,204,512. A dash for NaN."""
    if math.isnan(value):
        return "–"
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def spread(metrics: Mapping[str, float], name: str) -> str:
    """The 10th to the 90th percentile of a measured metric; empty for one that has no spread."""
    low, high = metrics.get(f"{name}_p10"), metrics.get(f"{name}_p90")
    return "" if low is None or high is None else f"{number(low)}–{number(high)}"


def span(seconds: float) -> str:
    """A duration in its two largest units: 8 s, 4 min 10 s, 2 h 5 min, 3 d 1 h."""
    whole = max(0, round(seconds))
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    return f"{whole} s"


def moment(seconds: float) -> str:
    """Unix seconds as a local date and time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
