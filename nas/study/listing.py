"""Tells what `nas list` shows of a study: two counts, and the numbers on its front."""

import math
from typing import Any

from nas import pareto
from nas.results import State
from nas.study import checked
from nas.study.optuna_tables import StoredOutcome
from nas.study.standing import standing
from nas.study.store import to_result
from nas.study.stored_study import StoredStudy
from nas.study.study_drivers import is_running

KEYS = ("study", "trained", "budget", "front", "running", "created")


def listing(study: StoredStudy) -> dict[str, Any]:
    """Returns the part of a study's standing that a list shows, as `nas list --json` prints it.

    It reads only how the trials ended. Commands that read other values report damage there.
    """
    outcomes = study.store.outcomes()
    if outcomes is None:
        now = standing(study)
        return {key: now[key] for key in KEYS}
    file, attributes = study.file, study.store.attributes()
    return {
        "study": study.address,
        "trained": sum(outcome.trained for outcome in outcomes),
        "budget": attributes.get("budget", file.search.trials),
        "front": _front(study, outcomes),
        "running": is_running(study),
        "created": attributes.get("created", 0.0),
    }


def _front(study: StoredStudy, outcomes: list[StoredOutcome]) -> list[int]:
    """Returns the numbers on the front, best first, as `pareto.front_of` gives them."""
    objectives, constraints = study.file.objective_list(), study.file.constraint_list()
    later = checked.remeasured(study.store.attributes())
    rows: list[tuple[int, list[float]]] = []
    for outcome in outcomes:
        if outcome.state is not State.COMPLETE:
            continue
        if outcome.number in later:
            result = to_result(study.store.row(outcome.number), constraints, later[outcome.number])
            values = result.values(objectives) if result.feasible else None
        else:
            sound = outcome.feasible and len(outcome.values) == len(objectives)
            values = list(outcome.values) if sound and all(map(math.isfinite, outcome.values)) else None
        if values is not None:
            rows.append((outcome.number, values))
    chosen = pareto.best_first([values for _, values in rows], [objective.goal for objective in objectives])
    return [rows[i][0] for i in chosen]
