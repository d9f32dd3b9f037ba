"""Draws the figure of `nas bench recall`: accuracy over the size of the decode state, a line a kind, a dot a seed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from nas import files
from nas.bench.attention_figure import COLOURS
from nas.bench.scaling import REFERENCE
from nas.report.figures import PNG_DPI, STYLE, svg_text
from nas.report.palette import LIGHT

SIZE_INCHES = (6.4, 4.0)


def write(result: Mapping[str, Any], stem: Path) -> None:
    """Writes STEM.svg and STEM.png."""
    with matplotlib.rc_context(STYLE):
        figure = draw(result)
        files.write_text(stem.with_suffix(".svg"), svg_text(figure))
        files.replace(stem.with_suffix(".png"), lambda path: figure.savefig(path, format="png", dpi=PNG_DPI))


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws kinds that differ in their fields alone as one line, by rising state."""
    figure = Figure(figsize=SIZE_INCHES)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.12, right=0.97, bottom=0.13, top=0.95)
    axes = figure.add_subplot()
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in result["kinds"]:
        lines.setdefault(row["kind"].split()[0], []).append(row)
    for number, (kind, rows) in enumerate(lines.items()):
        rows = sorted(rows, key=lambda row: row["state_kib"])
        colour = LIGHT["ink"] if kind == REFERENCE else COLOURS[number % len(COLOURS)]
        states = [row["state_kib"] for row in rows]
        axes.plot(states, [row["accuracy"] for row in rows], color=colour, marker="o", markersize=5, label=kind)
        for row in rows:
            axes.plot([row["state_kib"]] * len(row["each"]), row["each"], ".", color=colour, markersize=3, alpha=0.6)
    axes.set(ylim=(-0.03, 1.03))
    axes.set_xlabel("decode state of both blocks, KiB")
    axes.set_ylabel("accuracy")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.grid(axis="y", color=LIGHT["line"], linewidth=0.6)
    axes.legend(loc="lower right")
    return figure
