"""Formats answers as tables without lines, in 80 columns, with four digits a number.

They are plain text when redirected.
"""

import textwrap
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from nas.cli.output import Terminal


def answers() -> Console:
    """Returns the console on standard output."""
    return Terminal()


def table(*columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """Makes a table with these headings; `numbers` are aligned right. Long cells are folded, never cut."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return made


def pairs(rows: Mapping[str, str]) -> Table:
    """Prints names on the left, and what is said of them on the right."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, text in rows.items():
        made.add_row(name, text)
    return made


def heading(metric: str) -> str:
    """Returns the metric's name, broken after underscores to stand over narrow columns."""
    return "\n".join(line.replace(" ", "") for line in textwrap.wrap(metric.replace("_", "_ "), 14))
