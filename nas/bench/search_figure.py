"""Draws the figure of `nas bench search`: hypervolume over seconds, a thin line a seed, a thick one their median."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nas import files
from nas.bench.launches import OURS, STOCK
from nas.bench.replay import Curve
from nas.report.figures import PNG_DPI, STYLE, svg_text
from nas.report.palette import LIGHT

COLOURS = {OURS: LIGHT["front"], STOCK: LIGHT["infeasible"]}
OTHERS = ("#2f7d4f", "#75339c", "#b3202c", "#8a6d00", "#0f8b9c", "#c2498f", "#5b6b2f")
SIZE_INCHES = (7.2, 4.2)
HEADROOM = 1.1
LABEL_GAP = 0.05
"""Between labels at the right, as a share of the height."""


def write(curves: Mapping[str, Sequence[Curve]], seconds: float, ratio: float | None, stem: Path) -> None:
    """Writes STEM.svg and STEM.png. `ratio` is the median time ratio, None where ours never reaches stock."""
    with matplotlib.rc_context(STYLE):
        figure = draw(curves, seconds, ratio)
        files.write_text(stem.with_suffix(".svg"), svg_text(figure))
        files.replace(stem.with_suffix(".png"), lambda path: figure.savefig(path, format="png", dpi=PNG_DPI))


def draw(curves: Mapping[str, Sequence[Curve]], seconds: float, ratio: float | None) -> Figure:
    """Draws ours last, above the others, and stock's final volume as a dashed line."""
    figure = Figure(figsize=SIZE_INCHES)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.09, right=0.86, bottom=0.12, top=0.9)
    axes = figure.add_subplot()
    others = iter(OTHERS)
    colours = {who: COLOURS[who] if who in COLOURS else next(others) for who in curves}
    for who in sorted(curves, key=[*(w for w in curves if w not in COLOURS), STOCK, OURS].index):
        if len(curves[who]) > 1:
            for curve in curves[who]:
                _step(axes, curve, seconds, colours[who], 0.8, 0.45)
        _step(axes, middle(curves[who]), seconds, colours[who], 2.4 if who in COLOURS else 1.6, 1.0)
    finals = {who: middle(runs).final for who, runs in curves.items()}
    axes.axhline(finals[STOCK], color=LIGHT["soft"], linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.set_xlim(0, seconds)
    axes.set_ylim(0, HEADROOM * max(1e-9, *(c.final for runs in curves.values() for c in runs)))
    axes.set_xlabel("seconds since the start of the process")
    axes.set_ylabel("hypervolume of log-scaled objectives")
    axes.set_title(_title(ratio, len(curves[OURS])), loc="left", fontsize=10)
    axes.grid(axis="y", color=LIGHT["line"], linewidth=0.6)
    _labels(axes, finals, colours)
    return figure


def middle(curves: Sequence[Curve]) -> Curve:
    """Returns the median over the seeds, at every moment at which one of them changes."""
    moments = sorted({s for curve in curves for s in curve.seconds})
    return Curve(moments, [median(curve.at(moment) for curve in curves) for moment in moments])


def _step(axes: Axes, curve: Curve, seconds: float, colour: str, width: float, opacity: float) -> None:
    xs, ys = [0.0, *curve.seconds, seconds], [0.0, *curve.volumes, curve.final]
    axes.step(xs, ys, where="post", color=colour, linewidth=width, alpha=opacity, solid_joinstyle="miter")


def _title(ratio: float | None, seeds: int) -> str:
    of = "one seed" if seeds == 1 else f"median of {seeds} seeds"
    if ratio is None:
        return f"ours does not reach stock's final hypervolume ({of})"
    return f"ours reaches stock's final hypervolume in {ratio:.2f} of stock's time ({of})"


def _labels(axes: Axes, finals: Mapping[str, float], colours: Mapping[str, str]) -> None:
    """Puts names beside the ends of the lines, moved apart where they would overlap."""
    top = axes.get_ylim()[1]
    heights = {who: finals[who] / top for who in sorted(finals, key=lambda who: finals[who])}
    for low, high in list(pairwise(heights)) * len(heights):
        overlap = max(0.0, LABEL_GAP - (heights[high] - heights[low]))
        heights[low], heights[high] = heights[low] - overlap / 2, heights[high] + overlap / 2
    for who, height in heights.items():
        weight = "bold" if who == OURS else "normal"
        axes.text(
            1.012, height, who, transform=axes.transAxes, fontsize=9, va="center", color=colours[who], fontweight=weight
        )
