"""Draws the report's figures, each saved as SVG and PNG. Equal studies give equal SVG bytes."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nas.formatting import fixed, number
from nas.report import plots
from nas.report.importance import Importance
from nas.report.palette import LIGHT
from nas.report.summary import Summary

# Its keys are a literal type in new versions of matplotlib and plain strings in older ones.
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "nas",
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every machine draws the same
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LIGHT["faint"],
    "axes.labelcolor": LIGHT["soft"],
    "axes.facecolor": "none",
    "xtick.color": LIGHT["soft"],
    "ytick.color": LIGHT["soft"],
    "text.color": LIGHT["ink"],
    "figure.facecolor": LIGHT["paper"],
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handletextpad": 0.3,
    "legend.columnspacing": 0.9,
    "legend.borderaxespad": 0.0,
}
SIZE_INCHES = (5.4, 3.6)
PNG_DPI = 160
LETTER = 0.0148
"""The share of the width that a letter takes, for names beside an axis."""


@dataclass(frozen=True)
class Drawn:
    """Holds a figure as the page shows it; `kind` is pareto, hypervolume, learning or importance."""

    kind: str
    name: str
    caption: str
    svg: str


def draw(summary: Summary, importances: Sequence[Importance], folder: Path) -> list[Drawn]:
    """Draws every figure that has data into `folder`, as NAME.svg and NAME.png."""
    with matplotlib.rc_context(STYLE):
        return [
            *_pareto(summary, folder),
            *_hypervolume(summary, folder),
            *_learning(summary, folder),
            *_importance(importances, folder),
        ]


def _pareto(summary: Summary, folder: Path) -> Iterator[Drawn]:
    for y, x in combinations(summary.axes, 2):
        name, figure = f"pareto_{y.metric}_{x.metric}", _figure()
        if plots.pareto(figure.add_subplot(), summary, x, y):
            yield Drawn("pareto", name, f"{y.metric} against {x.metric}", _save(figure, folder / name))


def _hypervolume(summary: Summary, folder: Path) -> Iterator[Drawn]:
    history = summary.history
    if history is None:
        return
    trials = [float(i) for i, _ in enumerate(history.volumes, start=1)]
    reference = f"reference point ({', '.join(map(number, history.reference))})"
    for name, xs, label in (
        ("trials", trials, "trained trials"),
        ("seconds", history.seconds, "seconds of search"),
    ):
        figure = _figure()
        plots.growth(figure.add_subplot(), xs, history.volumes, label, reference)
        caption = f"Hypervolume over {label}"
        yield Drawn("hypervolume", f"hypervolume_{name}", caption, _save(figure, folder / f"hypervolume_{name}"))


def _learning(summary: Summary, folder: Path) -> Iterator[Drawn]:
    figure = _figure()
    if plots.learning_curves(figure.add_subplot(), summary):
        metric = summary.record.curve.metric if summary.record.curve else ""
        caption = f"{'Validation loss' if metric == 'val_loss' else metric} at each rung"
        yield Drawn("learning", "learning_curves", caption, _save(figure, folder / "learning_curves"))


def _importance(importances: Sequence[Importance], folder: Path) -> Iterator[Drawn]:
    for importance in (known for known in importances if known.shares):
        drawn = plots.greatest(importance)
        figure = _figure(height=0.2 + 0.3 * len(drawn))
        longest = max(len(choice) for choice, _ in drawn)
        figure.subplots_adjust(left=min(0.03 + LETTER * longest, 0.6), right=0.98, bottom=0.02, top=0.98)
        plots.shares(figure.add_subplot(), importance)
        name = f"importance_{importance.objective.metric}"
        caption = (
            f"What decides {importance.objective.metric}: R² {fixed(importance.r2, 2)}, {importance.trials} trials"
        )
        yield Drawn("importance", name, caption, _save(figure, folder / name))


def _figure(height: float = SIZE_INCHES[1]) -> Figure:
    figure = Figure(figsize=(SIZE_INCHES[0], height))
    figure.subplots_adjust(left=0.135, right=0.955, bottom=0.15, top=0.9)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, stem: Path) -> str:
    """Writes both files and returns the SVG's text."""
    figure.savefig(stem.with_suffix(".png"), dpi=PNG_DPI)
    text = svg_text(figure)
    stem.with_suffix(".svg").write_text(text, encoding="utf-8")
    return text


def svg_text(figure: Figure) -> str:
    """Returns the SVG without a date and a creator, so that its bytes depend only on what is drawn."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", dpi=PNG_DPI, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    return buffer.getvalue()
