"""Checks whether the search found anything better than its baselines, and than models without a neural network."""

from typing import Any

from nas.formatting import number
from nas.report.health.check import Check, Verdict
from nas.report.summary import Summary
from nas.report.words import best_beside_floor, goal_of, listed
from nas.results import Objective, StudyRecord, TrialResult


def baselines(record: StudyRecord) -> Check:
    """Tells which floors the best trial does not beat, and which baselines no trial dominates or improves on."""
    floors, unbeaten = floors_of(record), _unbeaten(record)
    trained = [trial for trial in record.trials if trial.baseline and trial.eligible]
    numbers = {"floors": floors, "baselines": [trial.number for trial in trained], "unbeaten": unbeaten}
    above = [floor for floor in floors if not floor["beaten"]]
    text = " ".join(filter(None, [*map(_floor_text, above), _baseline_text(trained, unbeaten)]))
    if above or unbeaten:
        return Check("baselines", Verdict.LOOK, text, numbers)
    if not floors and not trained:
        return Check("baselines", Verdict.UNKNOWN, "The study has no baseline that was trained, and no floor.", numbers)
    beaten = f"The best trial beats every floor ({listed([f['name'] for f in floors])})." if floors else ""
    return Check("baselines", Verdict.OK, " ".join(filter(None, [beaten, text])), numbers)


def floors_of(record: StudyRecord) -> list[dict[str, Any]]:
    """Compares the best trial with the best floor in each metric that is an objective, or the loss, on the validation
    split.
    """
    told, summary = list[dict[str, Any]](), Summary.of(record)
    scores = record.data.get("floors", {}).get("val", {})
    for metric in dict.fromkeys(metric for floor in scores.values() for metric in floor if ":" not in metric):
        best = best_beside_floor(summary, metric)
        if best is None or not _matters(record, metric):
            continue
        sign = 1 if goal_of(record, metric) == "min" else -1
        of = {name: floor[metric] for name, floor in scores.items() if metric in floor}
        name = min(of, key=lambda each: (sign * of[each], each))
        told.append(
            {"name": name, "metric": metric, "floor": of[name], "best": best, "beaten": sign * (of[name] - best) > 0}
        )
    return told


def floor_remarks(record: StudyRecord) -> list[str]:
    """Says which floors the best trial does not beat, a sentence each."""
    return [_floor_text(floor) for floor in floors_of(record) if not floor["beaten"]]


def _matters(record: StudyRecord, metric: str) -> bool:
    return any(o.metric in (metric, f"val_{metric}") for o in record.objectives)


def _floor_text(floor: dict[str, Any]) -> str:
    return (
        f"The best {floor['metric']} of a trial, {number(floor['best'])}, does not beat a model without a neural "
        f"network: the {floor['name']} has {number(floor['floor'])}."
    )


def _unbeaten(record: StudyRecord) -> list[dict[str, Any]]:
    """Lists the trained objectives in which no trial of the search is better than the best baseline."""
    told = list[dict[str, Any]]()
    for objective in (o for o in record.objectives if not o.means.cheap):
        values = [
            (t, t.metrics[objective.metric]) for t in record.trials if t.eligible and objective.metric in t.metrics
        ]
        own = [(t, v) for t, v in values if t.baseline]
        found = [v for t, v in values if not t.baseline]
        if own and found:
            best, value = min(own, key=lambda each: _sign(objective) * each[1])
            if min(_sign(objective) * v for v in found) >= _sign(objective) * value:
                told.append({"metric": objective.metric, "baseline": best.number})
    return told


def _baseline_text(trained: list[TrialResult], unbeaten: list[dict[str, Any]]) -> str:
    if not trained:
        return ""
    if not unbeaten:
        return "In every trained objective the search found better than its baselines."
    parts = [f"{each['metric']} than baseline {each['baseline']}" for each in unbeaten]
    return f"No trial that the search proposed has a better {listed(parts)}."


def _sign(objective: Objective) -> int:
    return 1 if objective.goal == "min" else -1
