"""Draws the figure of `nas bench attention`: four panels over the context, both axes logarithmic, a line a kind."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from nas import files
from nas.bench.scaling import REFERENCE, Row
from nas.report.figures import PNG_DPI, STYLE, svg_text
from nas.report.palette import LIGHT

PANELS = {
    "forward_ms": "forward, ms",
    "training_ms": "forward and backward, ms",
    "decode_ms": "one decode step, ms",
    "peak_training_mib": "peak memory of forward and backward, MiB",
}
COLOURS = ("#0b5aa2", "#b35900", "#2f7d4f", "#b3202c", "#75339c", "#0f8b9c", "#8a6d00", "#c2498f")
LINES = (("-", "o", True), ("--", "s", False), (":", "^", True))
"""Stroke, mark, and whether the mark is filled: the next, when all colours are taken."""
SIZE_INCHES = (9.6, 6.6)


def write(rows: Sequence[Row], stem: Path) -> None:
    """Writes STEM.svg and STEM.png."""
    with matplotlib.rc_context(STYLE):
        figure = draw(rows)
        files.write_text(stem.with_suffix(".svg"), svg_text(figure))
        files.replace(stem.with_suffix(".png"), lambda path: figure.savefig(path, format="png", dpi=PNG_DPI))


def draw(rows: Sequence[Row]) -> Figure:
    """Draws the panels, without kinds that compute nothing: their microseconds would squeeze all other lines."""
    rows = [row for row in rows if row["flops"]]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    figure = Figure(figsize=SIZE_INCHES)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.06, right=0.8, bottom=0.08, top=0.94, wspace=0.2, hspace=0.28)
    lines: dict[str, Line2D] = {}
    for place, (column, title) in enumerate(PANELS.items(), start=1):
        axes = figure.add_subplot(2, 2, place)
        for kind in _others_first(kinds):
            lines[kind] = _line(axes, [row for row in rows if row["kind"] == kind], column, kinds)
        _scale(axes, sorted({row["context"] for row in rows}), title)
    figure.legend(
        [lines[kind] for kind in kinds], kinds, loc="center left", bbox_to_anchor=(0.815, 0.5), labelspacing=0.8
    )
    return figure


def _others_first(kinds: Sequence[str]) -> list[str]:
    """Orders the kinds so that the one of comparison is drawn last, above the others."""
    return sorted(kinds, key=lambda kind: kind == REFERENCE)


def _line(axes: Axes, rows: Sequence[Row], column: str, kinds: Sequence[str]) -> Line2D:
    points = [(row["context"], row[column]) for row in rows if row[column] is not None]
    stroke, mark, filled = LINES[0]
    colour, width = LIGHT["ink"], 2.4
    if rows[0]["kind"] != REFERENCE:
        index = [kind for kind in kinds if kind != REFERENCE].index(rows[0]["kind"])
        stroke, mark, filled = LINES[index // len(COLOURS) % len(LINES)]
        colour, width = COLOURS[index % len(COLOURS)], 1.3
    (line,) = axes.plot(
        [context for context, _ in points],
        [value for _, value in points],
        color=colour,
        linestyle=stroke,
        linewidth=width,
        marker=mark,
        markersize=4,
        markerfacecolor=colour if filled else LIGHT["paper"],
    )
    return line


def _scale(axes: Axes, contexts: Sequence[int], title: str) -> None:
    axes.set(xscale="log", yscale="log")
    axes.set_title(title, loc="left", fontsize=9.5)
    axes.set_xticks(contexts, [str(context) for context in contexts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color=LIGHT["line"], linewidth=0.6)
    axes.set_xlabel("context")
