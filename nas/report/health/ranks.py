"""Checks how well trials were ranked before their training was over: by the sampler's model, and by their rungs."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.formatting import fixed
from nas.report.health.check import Check, Interval, Verdict, rank_interval
from nas.report.ranking import FEWEST, Correlation
from nas.results import Objective, State, StudyRecord

CLASSES, LEAST_CLASS = 3, 4
"""Trials are compared within thirds by their number of parameters, or halves where a third has fewer than four."""
WELL = 0.5
"""From this rank correlation on, an early value counts as telling."""

Floats = NDArray[np.float64]


def predictions(record: StudyRecord) -> Check:
    """Tells how well the sampler's model ranked the trials that it proposed, beside their number of parameters alone,
    and within classes of like size.
    """
    trained = [o for o in record.objectives if not o.means.cheap]
    told = [_predicted(record, objective) for objective in trained]
    found = [each for each in told if each["trials"]]
    numbers = {"objectives": told}
    if not found:
        text = "No trial that the sampler's model proposed was trained to its end."
        return Check("predictions", Verdict.UNKNOWN, text, numbers)
    verdicts = [_verdict_of(each) for each in found]
    verdict = next(v for v in (Verdict.LOOK, Verdict.UNKNOWN, Verdict.OK) if v in verdicts)
    return Check("predictions", verdict, " ".join(map(_prediction_text, found)), numbers)


def _predicted(record: StudyRecord, objective: Objective) -> dict[str, Any]:
    name = objective.metric
    rows = np.array(
        [
            (trial.predicted[name], trial.metrics.get("params", math.nan), trial.metrics[name])
            for trial in record.trials
            if trial.state is State.COMPLETE
            and math.isfinite(trial.predicted.get(name, math.nan))
            and math.isfinite(trial.metrics.get(name, math.nan))
        ]
    ).reshape(-1, 3)
    sized = rows[np.isfinite(rows[:, 1])]
    within, classes = within_classes(sized[:, 0], sized[:, 2], sized[:, 1])
    return {
        "metric": name,
        "trials": len(rows),
        "model": _correlation(rows[:, [0, 2]].tolist()),
        "params": _correlation(sized[:, [1, 2]].tolist()),
        "within_sizes": _with_interval(within, len(sized), classes),
    }


def within_classes(guess_N: Floats, truth_N: Floats, size_N: Floats) -> tuple[float | None, int]:
    """Returns the rank correlation within classes of like size, and how many classes there are.

    Ranks are taken within each class, less their mean, and all classes together give Pearson's correlation. None for
    fewer than FEWEST trials or equal values.
    """
    from scipy.stats import rankdata

    classes = next((k for k in range(CLASSES, 0, -1) if len(size_N) // k >= LEAST_CLASS), 1)
    if len(size_N) < FEWEST:
        return None, classes
    ranks = list[Floats]()
    for members in np.array_split(np.argsort(size_N, kind="stable"), classes):
        pair = np.stack([rankdata(guess_N[members]), rankdata(truth_N[members])])
        ranks.append(pair - pair.mean(axis=1, keepdims=True))
    guess, truth = np.concatenate(ranks, axis=1)
    scale = math.sqrt(float((guess**2).sum() * (truth**2).sum()))
    return (float((guess * truth).sum()) / scale if scale else None), classes


def _verdict_of(told: dict[str, Any]) -> Verdict:
    within = told["within_sizes"]
    if within["spearman"] is None:
        return Verdict.UNKNOWN
    if within["low"] > 0:
        return Verdict.OK
    return Verdict.LOOK if within["high"] < WELL else Verdict.UNKNOWN


def _prediction_text(told: dict[str, Any]) -> str:
    metric, model, within = told["metric"], told["model"], told["within_sizes"]
    if within["spearman"] is None:
        return f"{metric}: {told['trials']} trials with a prediction are too few to tell; {FEWEST} are needed."
    size = told["params"]["spearman"]
    alone = "" if size is None else f" (the number of parameters alone: {_signed(abs(size))})"
    text = (
        f"{metric}: predictions made before training rank {told['trials']} trials with a correlation of "
        f"{_told(model)}{alone}, and trials of like size with {_told(within)}."
    )
    tells = {Verdict.LOOK: " The model knows little more than the size.", Verdict.UNKNOWN: " Too few trials to tell."}
    return text + tells.get(_verdict_of(told), "")


def rungs(record: StudyRecord) -> Check:
    """Tells how the values at each rung rank the trials that were trained to their end, by the first trained
    objective that rungs have.
    """
    trained = [trial for trial in record.trials if trial.state is State.COMPLETE and len(trial.rungs) > 1]
    wanted = [o for o in record.objectives if not o.means.cheap]
    objective = next((o for o in wanted if any(o.metric in t.rungs[0].metrics for t in trained)), None)
    if objective is None:
        return Check("rungs", Verdict.UNKNOWN, "No trial was evaluated before its end.", {"trials": 0, "rungs": []})
    name = objective.metric
    pairs: dict[int, list[tuple[float, float]]] = {}
    for trial in trained:
        for rung in trial.rungs[:-1]:
            pair = rung.metrics.get(name, math.nan), trial.metrics.get(name, math.nan)
            if all(map(math.isfinite, pair)):
                pairs.setdefault(rung.step, []).append(pair)
    told = [{"step": step, **_correlation(pairs[step])} for step in sorted(pairs)]
    numbers = {"metric": name, "trials": len(trained), "rungs": told}
    known = [each for each in told if each["spearman"] is not None]
    if not known:
        text = f"{len(trained)} trials trained to their end are too few to tell; {FEWEST} are needed."
        return Check("rungs", Verdict.UNKNOWN, text, numbers)
    parts = ", ".join(f"step {each['step']:,}: {_told(each)}" for each in known)
    text = f"Rank correlation of {name} at a rung with its end, over trials trained to their end: {parts}."
    first = known[0]
    if first["low"] >= WELL:
        return Check("rungs", Verdict.OK, text, numbers)
    if first["high"] < WELL:
        return Check("rungs", Verdict.LOOK, f"{text} The first rung tells little: set it later.", numbers)
    return Check("rungs", Verdict.UNKNOWN, f"{text} Too few trials to tell.", numbers)


def _correlation(pairs: Sequence[Sequence[float]]) -> dict[str, Any]:
    found = Correlation.of([(x, y) for x, y in pairs])
    return _with_interval(found.rho, found.trials)


def _with_interval(rho: float | None, count: int, classes: int = 1) -> dict[str, Any]:
    interval = None if rho is None else rank_interval(rho, count, classes)
    return {
        "spearman": rho,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "trials": count,
    }


def _told(correlation: dict[str, Any]) -> str:
    """Writes a correlation with its interval: 0.81 (0.62 to 0.91)."""
    rho = correlation["spearman"]
    return "–" if rho is None else f"{_signed(rho)} ({Interval(correlation['low'], correlation['high'])})"


def _signed(rho: float) -> str:
    return fixed(rho, 2).replace("-", "−")
