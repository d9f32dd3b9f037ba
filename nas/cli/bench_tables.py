"""Prints the results of `nas bench`, one table each."""

from statistics import median
from typing import Any

from rich.table import Table

from nas.bench.scaling import FIT_FROM, OPERATIONS, SHORT
from nas.cli.tables import table
from nas.formatting import fixed, number, percent


def shares(result: dict[str, Any]) -> Table:
    """Tabulates the share of the front's hypervolume: mean and spread at each point, and the cost so far where it is
    known."""
    points = list(next(iter(result["samplers"].values())))
    counts = ("distinct", *(c for c in ("infeasible", "substituted") if any(result[c].values())))
    shown = table("trainings", *points, *counts, numbers=(*points, *counts))
    for name, at in result["samplers"].items():
        cells = [
            f"{fixed(at[point]['mean'], 4)}\n± {fixed(at[point]['std'], 4)}"
            + (f"\n{number(at[point]['cost']['mean'])}" if result["cost"] else "")
            for point in points
        ]
        label = f"{name}\n\n{result['cost']}" if result["cost"] else name
        shown.add_row(label, *cells, *(number(result[count][name]) for count in counts))
    return shown


def searches(result: dict[str, Any]) -> Table:
    """Makes one line for each contestant: medians over the seeds."""
    columns = ("trials", "hypervolume", "time ratio\nto stock", "time ratio\nto the run", "time ratio\nof ours to it")
    shown = table(f"median over {result['seeds']}", *columns, numbers=columns)
    for who, row in result["rows"].items():
        ratios = [row[name]["median"] if name in row else 1.0 for name in ("time_ratio", "time_ratio_of_budget")]
        told = ["never" if ratio is None else fixed(ratio, 2) for ratio in ratios] if who != "stock" else ["", ""]
        ours = result["against"][who]["time_ratio"]["median"] if who in result["against"] else None
        against = "" if who == "ours" else "never" if ours is None else fixed(ours, 2)
        shown.add_row(who, number(median(row["trials"])), number(row["hypervolume_median"]), *told, against)
    return shown


def costs(result: dict[str, Any]) -> Table:
    """Tabulates the costs at the longest context."""
    longest = max(result["settings"]["contexts"])
    columns = {
        "forward_ms": "forward\nms",
        "training_ms": "training\nms",
        "decode_ms": "decode\nms",
        "peak_training_mib": "training\nMiB",
        "decode_state_bytes": "state\nbytes",
    }
    shown = table(f"at {longest:,} tokens", *columns.values(), numbers=tuple(columns.values()))
    for row in result["rows"]:
        if row["context"] == longest:
            figures = [row[column] for column in columns]
            shown.add_row(row["kind"], *map(number, figures))
    return shown


def growth(result: dict[str, Any]) -> Table:
    """Tabulates the exponents of time over context, and two ratios."""
    ratios = {
        f"training_over_softmax_{SHORT}": f"training\n/softmax\nat {SHORT}",
        "decode_flatness": "decode\nlongest\n/shortest",
    }
    columns = [*(f"{operation}\nexponent" for operation in OPERATIONS), *ratios.values()]
    shown = table(f"from {FIT_FROM:,} tokens on", *columns, numbers=tuple(columns))
    for kind in result["settings"]["kinds"]:
        exponents = [result["exponents"].get(kind, {}).get(operation) for operation in OPERATIONS]
        figures = [*exponents, *(result[ratio].get(kind) for ratio in ratios)]
        shown.add_row(kind, *(fixed(figure, 2) for figure in figures))
    return shown


def recall(result: dict[str, Any]) -> Table:
    """Makes one line for each kind: the best rate's accuracy over the seeds."""
    columns = ("state\nKiB", "accuracy", "sd", "rate")
    shown = table(f"mean of {result['settings']['seeds']}", *columns, numbers=columns)
    for row in result["kinds"]:
        figures = (fixed(row["accuracy"], 3), fixed(row["accuracy_sd"], 3), number(row["learning_rate"]))
        shown.add_row(row["kind"], number(row["state_kib"]), *figures)
    return shown


def trainings(result: dict[str, Any]) -> Table:
    """Makes one line for each training: its loss, its seconds, and the ratios of ours to AdamW."""
    columns = ("seed", "steps", "loss", "seconds", "at step", "ratio", "CPU ratio")
    shown = table("training", *columns, numbers=columns)
    for row in result["rows"]:
        ours = row["training"] != "adamw"
        never = row["reached"] is None
        ratios = ["never" if never else fixed(row[key], 2) for key in ("ratio", "cpu_ratio")] if ours else ["", ""]
        step = number(row["reached"]["step"]) if ours and not never else ""
        figures = (number(row["seed"]), number(row["steps"]), fixed(row["loss"], 3), number(row["seconds"]))
        shown.add_row(row["training"], *figures, step, *ratios)
    for name, found in result["ratios"].items():
        middles = [found[key]["median"] for key in ("ratio", "cpu_ratio")]
        shown.add_row(f"{name}, median", *[""] * 5, *("never" if m is None else fixed(m, 2) for m in middles))
    return shown


def training_speed(result: dict[str, Any]) -> Table:
    """Makes one line for each width, beside the rate of a plain matrix product."""
    columns = ("step\nms", "optimiser\nms", "its\nshare", "training\nGFLOP/s", "of a\nproduct")
    shown = table("hidden", *columns, numbers=columns)
    for row in result["speed"]["rows"]:
        times = (number(row["step_ms"]), number(row["optimiser_ms"]), percent(row["optimiser_share"]))
        shown.add_row(number(row["hidden"]), *times, number(row["training_gflops"]), percent(row["share_of_product"]))
    shown.add_row("product", "", "", "", number(result["speed"]["product_gflops"]), "")
    return shown


def threads(result: dict[str, Any]) -> Table:
    """Makes one line for each width: the steps a second of all trials of each way."""
    ways = [name for name in result["rows"][0] if name != "hidden"]
    columns = tuple(name.replace("_", "\n") for name in ways)
    shown = table("hidden", *columns, numbers=columns)
    for row in result["rows"]:
        shown.add_row(number(row["hidden"]), *(number(row[name]) for name in ways))
    return shown


def recipes(result: dict[str, Any]) -> Table:
    """Makes one line for each study and recipe: means over the seeds."""
    columns = ("recipe", "seconds", "val_loss", "val_accuracy")
    shown = table(f"mean of {result['settings']['seeds']}", *columns, numbers=columns)
    for study, found in result["studies"].items():
        for recipe, means in found.items():
            figures = (fixed(means["val_loss"], 4), fixed(means["val_accuracy"], 4))
            shown.add_row(study, recipe, number(means["seconds"]), *figures)
    return shown


def ranking(result: dict[str, Any]) -> Table:
    """Makes one line for each two points: how far the first ranks as the second does."""
    columns = ("means of\nseeds", "95 %\ninterval", "another\nseed", "95 %\ninterval", "regret")
    shown = table("steps", "ranks for", *columns, numbers=columns)
    for row in result["correlations"]:
        told = [cell for which in ("mean", "across") for cell in _correlation(row[which])]
        lost = "" if row["mean"] is None or row["regret"] is None else fixed(row["regret"], 3)
        shown.add_row(row["short"], row["long"], *told, lost)
    for point in result["points"]:
        shown.add_row("size alone", point["name"], *_correlation(point["by_params"]), "", "", "")
    return shown


def grown(result: dict[str, Any]) -> Table:
    """Makes one line for each architecture, the best small one first, and the correlations below."""
    columns = ("params", "grown", result["quality"], "grown\nto")
    shown = table("small architecture", *columns, numbers=columns)
    order = sorted(result["pairs"], key=lambda pair: (pair["small_quality"] is None, pair["small_quality"]))
    for pair in order:
        qualities = ["diverged" if q is None else fixed(q, 3) for q in (pair["small_quality"], pair["grown_quality"])]
        shown.add_row(pair["small"], number(pair["small_params"]), number(pair["grown_params"]), *qualities)
    for name, which in (("Spearman", "correlation"), ("between seeds", "across"), ("size alone", "by_params")):
        rho, interval = _correlation(result[which])
        if rho:
            shown.add_row(name, "", "", rho, interval)
    return shown


def _correlation(found: dict[str, float | None] | None) -> tuple[str, str]:
    """Writes a correlation and its interval; both are empty where there is none."""
    if found is None or found["rho"] is None:
        return "", ""
    return fixed(found["rho"], 2), _interval(found, 2)


def overheads(result: dict[str, Any]) -> Table:
    """Makes one line each for ours, stock and their ratio: the seconds a trial with their interval, and start-up."""
    columns = ("s a trial", "95 %\ninterval", "driver's\nCPU s", "s to the\nfirst trial", "s to end")
    database = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[result["database"]["kind"]]
    shown = table(f"{result['settings']['pairs']} pairs of\nruns, {database}", *columns, numbers=columns)
    for who in ("ours", "stock"):
        each = result[f"{who}_seconds_per_trial"]
        keys = ("driver_cpu_seconds_per_trial", "startup_seconds", "ending_seconds")
        cpu, start, end = (result[f"{who}_{key}"] for key in keys)
        shown.add_row(who, fixed(each["mean"], 3), _interval(each, 3), fixed(cpu, 3), fixed(start, 1), fixed(end, 1))
    shown.add_row("stock / ours", fixed(result["ratio"]["mean"], 1), _interval(result["ratio"], 1), "", "", "")
    return shown


def _interval(figure: dict[str, float | None], digits: int) -> str:
    low, high = figure["low"], figure["high"]
    return "" if low is None or high is None else f"{fixed(low, digits)} to {fixed(high, digits)}"


def waits(result: dict[str, Any], trials: int) -> Table:
    """Tabulates what asking and telling cost after so many trials."""
    columns = ("median", "p95", "max")
    shown = table(f"ms, after {trials:,} trials", *columns, numbers=columns)
    for what, figures in (("ask, proposal ahead", "asks"), ("ask, proposal included", "proposals")):
        shown.add_row(what, *(number(result[figures]["ask_ms"][column]) for column in columns))
    for event in ("measured", "rung", "completed"):
        shown.add_row(f"report, {event}", *(number(result["asks"][f"{event}_ms"][column]) for column in columns))
    return shown
