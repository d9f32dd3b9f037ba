"""Writes the trials as a table, and the front in the form that programs read."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas import pareto
from nas.confirm.certainty import Certainty
from nas.report.sureness import Sureness
from nas.results import Constraint, Objective, StudyRecord, TrialResult

if TYPE_CHECKING:
    import pandas as pd

# `contended` is stored among the metrics too; here it is a flag of its own.
FLAGS = ("baseline", "contended", "on_front")


def to_frame(record: StudyRecord) -> "pd.DataFrame":
    """Returns one row a trial. NaN, or <NA> among the choices, stands where a trial has no such value.

    The columns are: number, state, reason, the flags, architecture_id, architecture, params.*, every metric,
    violations.*, predicted.* and bound.* (the sampler's values for an objective before it was measured, and before it
    was trained), confirmed.* where trials were trained again with new seeds, attempt, started and finished (Unix
    seconds) and the seconds between them.
    """
    import pandas as pd  # half a second to load, and the front's rows do without

    on_front = {trial.number for trial in pareto.front_of(record)}
    heads = [_head(trial, on_front) for trial in record.trials]
    params = pd.DataFrame([{f"params.{k}": v for k, v in trial.params.items()} for trial in record.trials])
    metrics = pd.DataFrame([_metrics(trial) for trial in record.trials], dtype=float)
    violations = [{f"violations.{k}": v for k, v in trial.violations.items()} for trial in record.trials]
    guesses = [_guesses(trial, record.objectives) for trial in record.trials]
    tails = [_tail(trial) for trial in record.trials]
    confirmed = pd.DataFrame(_confirmations(record))
    # A choice that some trials never had is an integer still, not a float with holes.
    parts = [
        pd.DataFrame(heads, columns=_HEAD),
        params.convert_dtypes(),
        metrics,
        pd.DataFrame(violations, dtype=float),
        pd.DataFrame(guesses, dtype=float),
        confirmed.astype({name: "Int64" for name in _COUNTS if name in confirmed}),
    ]
    return pd.concat([*parts, pd.DataFrame(tails, columns=_TAIL)], axis=1)


def front_rows(record: StudyRecord, limits: Iterable[Constraint] = ()) -> list[dict[str, Any]]:
    """Returns the front as `front.json` holds it, best first by what is best known of the first objective.

    None stands for a metric that is not finite, and for `confirmed` of a trial that was not trained again. A confirmed
    member's probability counts only where it is within the `limits`.
    """
    sureness = Sureness.of(record, limits)
    return [
        {
            "number": trial.number,
            "architecture_id": trial.architecture_id,
            "architecture": dict(trial.architecture),
            **({"parameters": dict(trial.parameters)} if trial.parameters else {}),
            "learning_rate": trial.learning_rate,
            "metrics": {k: v if math.isfinite(v) else None for k, v in trial.metrics.items()},
            "confirmed": member.plain() if (member := sureness.member(trial)) else None,
        }
        for trial in sureness.ranked(pareto.front_of(record))
    ]


def write(record: StudyRecord, folder: Path) -> None:
    """Writes trials.csv, trials.parquet and front.json."""
    frame = to_frame(record)
    frame.to_csv(folder / "trials.csv", index=False)
    frame.to_parquet(folder / "trials.parquet", index=False)
    text = json.dumps(front_rows(record), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "front.json").write_text(text + "\n", encoding="utf-8")


_HEAD = ["number", "state", "reason", *FLAGS, "architecture_id", "architecture"]
_COUNTS = ["confirmed.seeds", "confirmed.failed", "confirmed.blocks", "confirmed.steps"]
_TAIL = ["attempt", "started", "finished", "seconds"]


def _head(trial: TrialResult, on_front: set[int]) -> list[Any]:
    flags = [trial.baseline, trial.contended, trial.number in on_front]
    return [trial.number, str(trial.state), trial.reason, *flags, trial.architecture_id, trial.described]


def _metrics(trial: TrialResult) -> dict[str, float]:
    return {name: value for name, value in trial.metrics.items() if name not in FLAGS}


def _guesses(trial: TrialResult, objectives: Sequence[Objective]) -> dict[str, float]:
    bound = {f"bound.{o.metric}": value for o, value in zip(objectives, trial.bound, strict=False)}
    return {f"predicted.{metric}": value for metric, value in trial.predicted.items()} | bound


def _confirmations(record: StudyRecord) -> list[dict[str, Any]]:
    """Returns confirmed.seeds, failed, blocks, steps, probability, ties (as "7 22"), and NAME, NAME_low, NAME_high."""
    certainty = Certainty.of(record)
    members = certainty.members if certainty else {}
    rows = []
    for member in (members.get(trial.number) for trial in record.trials):
        row: dict[str, Any] = {}
        if member is not None:
            row = {"seeds": member.seeds, "failed": member.failed, "blocks": member.blocks, "steps": member.steps}
            row |= {"probability": member.probability, "ties": " ".join(map(str, member.ties))}
            for name, found in member.metrics.items():
                row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
        rows.append({f"confirmed.{key}": value for key, value in row.items()})
    return rows


def _tail(trial: TrialResult) -> list[Any]:
    started = math.nan if trial.started is None else trial.started
    finished = math.nan if trial.finished is None else trial.finished
    seconds = math.nan if trial.finished is None or trial.seconds is None else trial.seconds
    return [trial.attempt, started, finished, seconds]
