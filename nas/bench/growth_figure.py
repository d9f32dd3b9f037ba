"""Draws the figure of `nas bench growth`: the quality of each small architecture, and of its larger form."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nas import files
from nas.formatting import fixed
from nas.report.figures import PNG_DPI, STYLE, svg_text
from nas.report.palette import LIGHT

SIZE_INCHES = (5.6, 4.6)


def write(result: Mapping[str, Any], stem: Path) -> None:
    """Writes STEM.svg and STEM.png."""
    with matplotlib.rc_context(STYLE):
        figure = draw(result)
        files.write_text(stem.with_suffix(".svg"), svg_text(figure))
        files.replace(stem.with_suffix(".png"), lambda path: figure.savefig(path, format="png", dpi=PNG_DPI))


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws a mark for each pair; the best small architecture is marked. Trainings that diverged are left out."""
    figure = Figure(figsize=SIZE_INCHES)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.14, right=0.97, bottom=0.13, top=0.86)
    axes = figure.add_subplot()
    pairs = [p for p in result["pairs"] if p["small_quality"] is not None and p["grown_quality"] is not None]
    for number, pair in enumerate(sorted(pairs, key=lambda pair: float(pair["small_quality"]))):
        x, y = pair["small_quality"], pair["grown_quality"]
        best = number == 0
        axes.plot([x], [y], marker="D" if best else "o", markersize=8 if best else 6, color=_colour(best))
        axes.annotate(str(number + 1), (x, y), xytext=(6, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel(f"{result['quality']} as searched, {result['steps']['small']:,} steps")
    times = f"{result['times']:g} times the parameters"
    axes.set_ylabel(f"{result['quality']} with {times}, {result['steps']['grown']:,} steps")
    axes.grid(color=LIGHT["line"], linewidth=0.6)
    axes.set_title(_title(result), loc="left", fontsize=10)
    return figure


def _colour(best: bool) -> str:
    return LIGHT["front"] if best else LIGHT["soft"]


def _title(result: Mapping[str, Any]) -> str:
    found, place = result["correlation"], result["winner"]["place"]
    of = f"{result['study']}: the best of {result['architectures']} small ones is number {place} when grown"
    if found["rho"] is None:
        return of
    interval = f" ({fixed(found['low'], 2)} to {fixed(found['high'], 2)})" if found["low"] is not None else ""
    return f"{of}\nSpearman {fixed(found['rho'], 2)}{interval}"
