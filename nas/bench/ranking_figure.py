"""Draws the figure of `nas bench ranking`: how far each moment of a training ranks as longer trainings do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from nas import files
from nas.bench.attention_figure import COLOURS
from nas.report.figures import PNG_DPI, STYLE, svg_text
from nas.report.palette import LIGHT

SIZE_INCHES = (6.8, 4.2)
APART = 0.025
"""Between the marks of one moment, as a share of it: intervals beside each other can be read."""


def write(result: Mapping[str, Any], stem: Path) -> None:
    """Writes STEM.svg and STEM.png."""
    with matplotlib.rc_context(STYLE):
        figure = draw(result)
        files.write_text(stem.with_suffix(".svg"), svg_text(figure))
        files.replace(stem.with_suffix(".png"), lambda path: figure.savefig(path, format="png", dpi=PNG_DPI))


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws a line for each length of training, over the shorter moments that rank for it."""
    figure = Figure(figsize=SIZE_INCHES)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.1, right=0.97, bottom=0.2, top=0.9)
    axes = figure.add_subplot()
    points = {point["name"]: point for point in result["points"]}
    ends = [point for point in result["points"] if point["after"] == point["of"]]
    for number, end in enumerate(ends):
        rows = [row for row in result["correlations"] if row["long"] == end["name"] and row["mean"]]
        label = f"rank at {end['name']} steps"
        _line(axes, rows, points, COLOURS[number % len(COLOURS)], 1 + (number - len(ends) / 2) * APART, label)
    if ends:
        by_size = ends[-1]["by_params"]["rho"]
        if by_size is not None:
            label = f"size alone, for {ends[-1]['name']} steps"
            axes.axhline(by_size, color=LIGHT["soft"], linewidth=0.9, linestyle=(0, (4, 3)), zorder=0, label=label)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator([point["after"] for point in result["points"]]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([name.replace(" of ", "\nof ") for name in points])
    axes.set_xlabel("steps of the shorter training")
    axes.set_ylabel("Spearman's rank correlation, with 95 % interval")
    axes.set_ylim(top=1.02)
    axes.grid(axis="y", color=LIGHT["line"], linewidth=0.6)
    seeds = "one seed" if result["seeds"] == 1 else f"{result['seeds']} seeds"
    title = f"{result['study']}: {result['quality']}, {result['architectures']} architectures, {seeds}"
    axes.set_title(title, loc="left", fontsize=10)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 0.06))
    return figure


def _line(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    points: Mapping[str, Mapping[str, Any]],
    colour: str,
    shift: float,
    label: str,
) -> None:
    known = [row for row in rows if row["mean"]["low"] is not None]
    if not known:
        return
    xs = [shift * points[row["short"]]["after"] for row in known]
    rhos = [row["mean"]["rho"] for row in known]
    below = [max(0.0, rho - row["mean"]["low"]) for rho, row in zip(rhos, known, strict=True)]
    above = [max(0.0, row["mean"]["high"] - rho) for rho, row in zip(rhos, known, strict=True)]
    axes.errorbar(xs, rhos, [below, above], color=colour, marker="o", markersize=5, capsize=3, label=label)
