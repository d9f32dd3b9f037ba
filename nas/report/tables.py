"""Writes the trials as a table, and the front in the form that programs read."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas import pareto
from nas.results import Objective, StudyRecord, TrialResult

if TYPE_CHECKING:
    import pandas as pd

# `contended` is stored among the metrics too; here it is a flag of its own.
FLAGS = ("baseline", "contended", "on_front")


def to_frame(record: StudyRecord) -> "pd.DataFrame":
    """Returns one row a trial. NaN, or <NA> among the choices, stands where a trial has no such value.

    The columns are: number, state, reason, the flags, architecture_id, architecture, params.*, every metric,
    violations.*, predicted.* and bound.* (the sampler's values for an objective before it was measured, and before it
    was trained), attempt, started and finished (Unix seconds) and the seconds between them.
    """
    import pandas as pd  # half a second to load, and the front's rows do without

    on_front = {trial.number for trial in pareto.front_of(record)}
    heads = [_head(trial, on_front) for trial in record.trials]
    params = pd.DataFrame([{f"params.{k}": v for k, v in trial.params.items()} for trial in record.trials])
    metrics = pd.DataFrame([_metrics(trial) for trial in record.trials], dtype=float)
    violations = [{f"violations.{k}": v for k, v in trial.violations.items()} for trial in record.trials]
    guesses = [_guesses(trial, record.objectives) for trial in record.trials]
    tails = [_tail(trial) for trial in record.trials]
    # A choice that some trials never had is an integer still, not a float with holes.
    parts = [
        pd.DataFrame(heads, columns=_HEAD),
        params.convert_dtypes(),
        metrics,
        pd.DataFrame(violations, dtype=float),
        pd.DataFrame(guesses, dtype=float),
    ]
    return pd.concat([*parts, pd.DataFrame(tails, columns=_TAIL)], axis=1)


def front_rows(record: StudyRecord) -> list[dict[str, Any]]:
    """Returns the front as `front.json` holds it, best first by the first objective; None for a metric that is not
    finite.
    """
    return [
        {
            "number": trial.number,
            "architecture_id": trial.architecture_id,
            "architecture": dict(trial.architecture),
            **({"parameters": dict(trial.parameters)} if trial.parameters else {}),
            "learning_rate": trial.learning_rate,
            "metrics": {k: v if math.isfinite(v) else None for k, v in trial.metrics.items()},
        }
        for trial in pareto.front_of(record)
    ]


def write(record: StudyRecord, folder: Path) -> None:
    """Writes trials.csv, trials.parquet and front.json."""
    frame = to_frame(record)
    frame.to_csv(folder / "trials.csv", index=False)
    frame.to_parquet(folder / "trials.parquet", index=False)
    text = json.dumps(front_rows(record), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "front.json").write_text(text + "\n", encoding="utf-8")


_HEAD = ["number", "state", "reason", *FLAGS, "architecture_id", "architecture"]
_TAIL = ["attempt", "started", "finished", "seconds"]


def _head(trial: TrialResult, on_front: set[int]) -> list[Any]:
    flags = [trial.baseline, trial.contended, trial.number in on_front]
    return [trial.number, str(trial.state), trial.reason, *flags, trial.architecture_id, trial.described]


def _metrics(trial: TrialResult) -> dict[str, float]:
    return {name: value for name, value in trial.metrics.items() if name not in FLAGS}


def _guesses(trial: TrialResult, objectives: Sequence[Objective]) -> dict[str, float]:
    bound = {f"bound.{o.metric}": value for o, value in zip(objectives, trial.bound, strict=False)}
    return {f"predicted.{metric}": value for metric, value in trial.predicted.items()} | bound


def _tail(trial: TrialResult) -> list[Any]:
    started = math.nan if trial.started is None else trial.started
    finished = math.nan if trial.finished is None else trial.finished
    seconds = math.nan if trial.finished is None or trial.seconds is None else trial.seconds
    return [trial.attempt, started, finished, seconds]
