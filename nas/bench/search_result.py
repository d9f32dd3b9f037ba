"""Sums up the benchmark of searches: its result, its table and its figure."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from nas import files
from nas.bench import replay, search_figure
from nas.bench.launches import OURS, STOCK
from nas.bench.replay import Curve, Lines, Metrics, Scale
from nas.measure import environment

Curves = Mapping[str, Sequence[Curve]]
"""Maps each name to its curves, one a seed."""


def conclude(
    facts: Mapping[str, Any], lines: Lines, scale: Scale, retrained: Mapping[str, Metrics | None], out: Path
) -> dict[str, Any]:
    """Writes result.json, timeline.csv, hypervolume.svg and hypervolume.png. Returns the content of result.json.

    `facts` are the settings, with `minutes`; `retrained` has all front members, None where training failed.
    """
    seconds = 60 * facts["minutes"]
    curves = {who: [replay.replayed(line, scale, retrained) for line in runs] for who, runs in lines.items()}
    told = {who: [replay.told(line, scale) for line in runs] for who, runs in lines.items()}
    rows = {who: _row(who, curves, told, seconds) for who in lines}
    result = {
        **facts,
        **{name: rows[OURS][name] for name in ("time_ratio", "time_ratio_of_budget")},
        "rows": rows,
        "against": {who: _against(who, curves, seconds) for who in lines if who != OURS},
        "reference": dict(scale.reference),
        "retrained": len(retrained),
        "failed": sum(metrics is None for metrics in retrained.values()),
        "environment": environment(),
    }
    files.write_json(out / "result.json", result)
    files.write_text(out / "timeline.csv", _csv(list(_table(lines, curves, told, scale, retrained))))
    search_figure.write(curves, seconds, result["time_ratio"]["median"], out / "hypervolume")
    return result


def _row(who: str, curves: Curves, told: Curves, seconds: float) -> dict[str, Any]:
    """Returns one search's trials, final volume and (but for stock) time to stock's volume, seed by seed."""
    final = [curve.final for curve in curves[who]]
    row: dict[str, Any] = {
        "trials": [len(curve.seconds) for curve in curves[who]],
        "hypervolume": final,
        "hypervolume_median": median(final),
        "hypervolume_as_told": [curve.final for curve in told[who]],
    }
    if who == STOCK:
        return row | {"reached_seconds": [curve.reaches(curve.final) for curve in curves[who]]}
    return row | replay.time_ratios(curves[who], curves[STOCK], seconds)


def _against(who: str, curves: Curves, seconds: float) -> dict[str, Any]:
    """Returns the time until ours has that search's final volume, over the time that the other took for it."""
    return replay.time_ratios(curves[OURS], curves[who], seconds)


def _table(
    lines: Lines, curves: Curves, told: Curves, scale: Scale, retrained: Mapping[str, Metrics | None]
) -> Iterator[dict[str, Any]]:
    """Yields a row for every finished trial."""
    names = [objective.metric for objective in scale.objectives]
    for who, runs in lines.items():
        for seed, line in enumerate(runs):
            for i, (finish, on_front) in enumerate(zip(line, replay.joined(line, scale), strict=True)):
                again = retrained.get(finish.key) or {}
                yield {
                    "who": who,
                    "seed": seed,
                    "seconds": finish.seconds,
                    "architecture": finish.key,
                    "joined_front": on_front,
                    "hypervolume": curves[who][seed].volumes[i],
                    "hypervolume_as_told": told[who][seed].volumes[i],
                    **{name: finish.metrics[name] for name in names},
                    **{f"{name}_retrained": again.get(name) for name in names},
                }


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()
