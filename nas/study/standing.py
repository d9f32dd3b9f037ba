"""Tells the state of a study: its trials by state, the trained part of its budget, its front, its best values."""

import time
from collections import Counter
from typing import Any

from nas import intervals, pareto
from nas.results import State, StudyRecord, TrialResult
from nas.study.stored_confirmations import confirmed
from nas.study.stored_study import StoredStudy
from nas.study.study_drivers import as_data, confirming, current_drivers, is_running


def standing(study: StoredStudy) -> dict[str, Any]:
    """Tells the state of a study as plain data: what `nas status --json` prints."""
    running, record = is_running(study), study.record()
    states: dict[str, Counter[str]] = {}
    for trial in record.trials:
        states.setdefault(str(trial.state), Counter())[trial.reason] += 1
    front = pareto.front_of(record)
    confirm = confirming(study)
    drivers = [as_data(driver, confirms=driver.id in confirm) for driver in current_drivers(study)]
    return {
        "study": study.address,
        "running": running,
        "trained": record.trained_count(),
        "stopped": sum(trial.trained and trial.state is State.PRUNED for trial in record.trials),
        "budget": record.budget,
        "created": record.created,
        "elapsed_seconds": _elapsed(record, running),
        "states": {state: dict(reasons) for state, reasons in states.items()},
        "front": [trial.number for trial in front],
        "best": _best(record, front),
        "drivers": drivers,
        "confirmation": _confirmation(study, drivers),
        "storage": None if study.place is None else str(study.place),
        "folder": study.stored_folder,
        "missing_files": study.missing_files,
    }


def _confirmation(study: StoredStudy, drivers: list[dict[str, Any]]) -> dict[str, int] | None:
    """Counts what is done to confirm the study, over all lengths of training; None where nothing is."""
    now, living = confirmed(study.store), sum(driver["confirms"] and driver["lives"] for driver in drivers)
    if not (now.ended or now.begun or living):
        return None
    trainings = [training for found in now.results.values() for training in found.retrainings]
    return {
        "members": len(now.results),
        "trained": sum(not training.failed for training in trainings),
        "failed": sum(training.failed for training in trainings),
        "measured": sum(len(found.blocks) for found in now.results.values()),
        "tested": sum(bool(training.test) for training in trainings),
        "running": len(now.begun),
        "drivers": living,
    }


def _elapsed(record: StudyRecord, running: bool) -> float:
    """Returns the time during which drivers worked on the study, up to now while it runs. Pauses between launches do
    not count.

    Version 0.1 stored no such times: for its studies, this is the time from creation to the last result.
    """
    if not record.worked:
        last = max((trial.finished or 0.0 for trial in record.trials), default=0.0)
        return max(0.0, (time.time() if running else last) - record.created)
    latest = max(record.worked)
    now = [(latest[0], time.time())] if running else []
    return intervals.seconds([*record.working, *now])


def _best(record: StudyRecord, front: tuple[TrialResult, ...]) -> list[dict[str, Any]]:
    rows = []
    for objective in record.objectives if front else ():
        choose = min if objective.goal == "min" else max
        trial = choose(front, key=lambda trial: trial.metrics[objective.metric])
        row = {"metric": objective.metric, "unit": objective.unit, "goal": objective.goal}
        rows.append(row | {"value": trial.metrics[objective.metric], "trial": trial.number})
    return rows
