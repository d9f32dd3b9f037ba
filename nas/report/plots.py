"""Draws on a matplotlib axes: a Pareto figure, a growing hypervolume, learning curves, importances."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import ScalarFormatter

from nas import pareto as arithmetic
from nas.formatting import number, percent
from nas.report import words
from nas.report.importance import Importance
from nas.report.palette import LIGHT
from nas.report.summary import DRAWN, Role, Summary
from nas.report.window import Window
from nas.results import Goal, Objective, TrialResult

SHAPES = {Role.FRONT: "o", Role.DOMINATED: "o", Role.STOPPED: "s", Role.INFEASIBLE: "^", Role.FAILED: "x"}
COLOURS = {Role.FRONT: "front", Role.INFEASIBLE: "infeasible", Role.FAILED: "failed"}
MOST_SHAPES = 1000
"""More marks or lines of one role are drawn as a picture within the SVG, which stays small and quick to show."""
MOST_NAMES = 40
"""A figure names this many members of the front, and the knee."""
LABEL_GAP = 0.035
"""Labels at the right edge stand at least this share of the axes' height apart."""
MOST_SHARES, LEAST_SHARE = 8, 0.01


def pareto(axes: Axes, summary: Summary, x: Objective, y: Objective) -> bool:
    """Draws every trial that has a value on both axes, by shape and colour of its role. False when there is none.

    The stepped line is the front of these two axes alone; filled marks are non-dominated over all objectives.
    """
    trials = [t for t in summary.with_role(*DRAWN) if _point(summary, t, x, y) is not None]
    if not trials:
        return False
    windows = summary.window(x, trials), summary.window(y, trials)
    _scale(axes, "x", windows[0], x.label)
    _scale(axes, "y", windows[1], y.label)
    exact = {t.number: p for t in trials if (p := _point(summary, t, x, y)) is not None}
    points = {number: _on_paper(point, windows) for number, point in exact.items()}
    _staircase(axes, [exact[t.number] for t in summary.eligible if t.number in exact], x, y)
    for role, baseline in [(role, baseline) for role in SHAPES for baseline in (False, True)]:
        shown = [points[t.number] for t in trials if summary.roles[t.number] is role and t.baseline is baseline]
        if shown:
            _marks(axes, shown, role, baseline)
    for trial in named(summary):
        if trial.number in points:
            _note(axes, str(trial.number), points[trial.number], offset=(5, 4))
    _tell_beyond(axes, _beyond(*windows), (x.goal, y.goal))
    _legend(axes)
    return True


def named(summary: Summary) -> list[TrialResult]:
    """Returns the members of the front that a figure has room to number: the knee, and others spread over the front."""
    front = summary.front
    if len(front) <= MOST_NAMES:
        return list(front)
    places = {round(i * (len(front) - 1) / (MOST_NAMES - 1)) for i in range(MOST_NAMES)}
    return [trial for i, trial in enumerate(front) if i in places or trial.number == summary.knee]


def growth(axes: Axes, xs: Sequence[float], volumes: Sequence[float], label: str, reference: str) -> None:
    """Draws the hypervolume as a staircase: it grows when a trial ends, and never falls."""
    axes.step([0, *xs], [0, *volumes], where="post", color=LIGHT["front"], linewidth=1.6)
    axes.set_xlim(0)
    axes.set_ylim(0)
    axes.set_xlabel(label)
    axes.set_ylabel("hypervolume")
    axes.set_title(reference, loc="left", fontsize=8.5, color=LIGHT["soft"])


def learning_curves(axes: Axes, summary: Summary) -> bool:
    """Draws the validation loss, or the metric in its place, at each rung, with the front in colour and numbered.

    False when no rung has one.
    """
    shown = summary.record.curve
    curves = {t.number: c for t in summary.record.trials if shown and (c := _curve(t, shown.metric))}
    if not curves or shown is None:
        return False
    kept = [loss for t in summary.front for _, loss in curves.get(t.number, ())]
    window = Window.of([loss for curve in curves.values() for _, loss in curve], kept)
    for role in SHAPES:
        mine = [curves[t.number] for t in summary.with_role(role) if t.number in curves]
        if mine:
            _plot_curves(axes, mine, role)
    _scale(axes, "y", window, shown.label)
    axes.set_xlim(0, max(step for curve in curves.values() for step, _ in curve) * 1.01)
    axes.set_xlabel("training step")
    _floors(axes, summary)
    below, above = words.beyond(window, "loss" if shown.metric == "val_loss" else shown.metric)
    worse = f"↑ {above}" if above and shown.goal == "min" else f"↓ {below}" if below and shown.goal == "max" else ""
    _tell_beyond(axes, [worse] if worse else [], ("min", shown.goal))
    _end_labels(axes, {t.number: curves[t.number][-1][1] for t in named(summary) if t.number in curves})
    _legend(axes)
    return True


def greatest(importance: Importance) -> list[tuple[str, float]]:
    """Returns the choices that are drawn, with their shares."""
    return [(choice, share) for choice, share in importance.shares[:MOST_SHARES] if share >= LEAST_SHARE]


def shares(axes: Axes, importance: Importance) -> None:
    """Draws a bar for each of the choices that matter most, with its share beside it."""
    most = greatest(importance)
    names, percents = [choice for choice, _ in most], [100 * share for _, share in most]
    bars = axes.barh(range(len(most)), percents, height=0.62, color=LIGHT["front"])
    axes.bar_label(bars, [percent(share) for _, share in most], padding=4, fontsize=8.5, color=LIGHT["soft"])
    axes.set_yticks(range(len(most)), names)
    axes.set_ylim(len(most) - 0.5, -0.5)
    axes.set_xlim(0, 1.15 * percents[0])
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
    axes.spines["bottom"].set_visible(False)


def _point(summary: Summary, trial: TrialResult, x: Objective, y: Objective) -> tuple[float, float] | None:
    across, up = summary.value(trial, x), summary.value(trial, y)
    return None if across is None or up is None else (across, up)


def _on_paper(point: tuple[float, float], windows: tuple[Window, Window]) -> tuple[float, float]:
    """Returns the point itself; on the frame where it lies beyond what is shown."""
    (left, right), (low, high) = windows[0].limits(), windows[1].limits()
    x, y = (w.clamped(v) for w, v in zip(windows, point, strict=True))
    across = x if x == point[0] else right if point[0] > x else left
    return across, y if y == point[1] else high if point[1] > y else low


def _scale(axes: Axes, which: Literal["x", "y"], window: Window, label: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_label_text(label)
    if window.log:
        axes.set(**{f"{which}scale": "log"})
        axis.set_major_formatter("{x:g}")
    else:
        axis.set_major_formatter(ScalarFormatter(useOffset=False))
    axes.set(**{f"{which}lim": window.limits()})


def _tell_beyond(axes: Axes, lines: Sequence[str], goals: tuple[Goal, Goal]) -> None:
    """Writes what lies beyond the axes, in the corner that is worst on both axes, where no front is."""
    right, top = (goal == "min" for goal in goals)
    axes.text(
        0.99 if right else 0.01,
        0.985 if top else 0.015,
        "\n".join(lines),
        transform=axes.transAxes,
        ha="right" if right else "left",
        va="top" if top else "bottom",
        multialignment="right" if right else "left",
        fontsize=7.5,
        color=LIGHT["soft"],
        zorder=1,
    )


def _beyond(across: Window, up: Window) -> list[str]:
    """Lists a line with an arrow for each side on which trials lie beyond the axes."""
    arrows = zip("←→↓↑", (*words.beyond(across), *words.beyond(up)), strict=True)
    return [f"{arrow} {text}" for arrow, text in arrows if text]


def _staircase(axes: Axes, points: Sequence[tuple[float, float]], x: Objective, y: Objective) -> None:
    """Connects each member of the front to the next, along the border of what the front dominates."""
    members = [points[i] for i in arithmetic.front(points, (x.goal, y.goal))] if points else []
    members.sort(reverse=x.goal == "max")
    xs, ys = [p[0] for p in members], [p[1] for p in members]
    axes.step(xs, ys, where="post", color=LIGHT["front"], linewidth=1.1, alpha=0.6, zorder=1)


def _marks(axes: Axes, points: Sequence[tuple[float, float]], role: Role, baseline: bool) -> None:
    colour = LIGHT["baseline" if baseline else COLOURS.get(role, "faint")]
    marker = "D" if baseline and role in (Role.FRONT, Role.DOMINATED) else SHAPES[role]
    fill = colour if role is Role.FRONT else "none"
    name = "baseline" if baseline else str(role)
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    common: dict[str, Any] = {"marker": marker, "label": name, "clip_on": False, "rasterized": len(xs) > MOST_SHAPES}
    if marker == "x":  # has no inside to fill
        axes.scatter(xs, ys, s=26, color=colour, linewidths=1.2, zorder=3, **common)
    else:
        size, layer = (34, 4) if role is Role.FRONT else (24, 3)
        axes.scatter(xs, ys, s=size, facecolor=fill, edgecolor=colour, zorder=layer, **common)


def _curve(trial: TrialResult, metric: str) -> list[tuple[int, float]]:
    points = [(rung.step, rung.metrics.get(metric, math.nan)) for rung in trial.rungs]
    return [(step, loss) for step, loss in points if math.isfinite(loss)]


def _plot_curves(axes: Axes, curves: Sequence[Sequence[tuple[int, float]]], role: Role) -> None:
    """Draws lines with the shape of their role at the end, all of them as one object."""
    front, colour = role is Role.FRONT, LIGHT[COLOURS.get(role, "faint")]
    layer, flat = 3 if front else 2, len(curves) > MOST_SHAPES
    lines = LineCollection(curves, colors=colour, linewidths=1.5 if front else 0.8, zorder=layer, rasterized=flat)
    axes.add_collection(lines, autolim=False)
    axes.plot(
        [curve[-1][0] for curve in curves],
        [curve[-1][1] for curve in curves],
        color=colour,
        linestyle="none",
        marker=SHAPES[role],
        markersize=4,
        markerfacecolor=colour if front else LIGHT["paper"],
        zorder=layer,
        rasterized=flat,
        label=str(role),
    )


def _floors(axes: Axes, summary: Summary) -> None:
    """Draws baseline losses without a neural network as dashed lines, where they fall within the figure."""
    low, high = axes.get_ylim()
    for name, metrics in summary.record.data.get("floors", {}).get("val", {}).items():
        nats = metrics.get("loss", math.nan)
        if low <= nats <= high:
            axes.axhline(nats, color=LIGHT["soft"], linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
            _note(axes, f"{name} {number(nats)}", (0, nats), offset=(3, 2))


def _end_labels(axes: Axes, ends: Mapping[int, float]) -> None:
    """Writes trial numbers beside the ends of their curves, moved apart where they would overlap."""
    to_share = axes.transData - axes.transAxes
    heights = {trial: float(to_share.transform((0.0, ends[trial]))[1]) for trial in sorted(ends, key=lambda t: ends[t])}
    for low, high in list(pairwise(heights)) * len(heights):  # no more of them than there are names
        overlap = max(0.0, LABEL_GAP - (heights[high] - heights[low]))
        heights[low], heights[high] = heights[low] - overlap / 2, heights[high] + overlap / 2
    for trial, height in heights.items():
        axes.text(1.012, height, str(trial), transform=axes.transAxes, fontsize=7, va="center", color=LIGHT["front"])


def _note(axes: Axes, text: str, point: tuple[float, float], offset: tuple[int, int]) -> None:
    """Writes small text beside a point, `offset` printer's points away."""
    axes.annotate(text, point, xytext=offset, textcoords="offset points", fontsize=7.5, color=LIGHT["soft"])


def _legend(axes: Axes) -> None:
    """Draws one line above the figure, with every name once."""
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(handles.values(), handles.keys(), loc="lower left", bbox_to_anchor=(0, 1.02), ncols=6, handlelength=1.2)
