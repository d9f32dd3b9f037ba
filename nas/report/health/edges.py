"""Checks whether the best trials use a value at the edge of the space, so that a wider space may hold better ones."""

import math
import random
from collections.abc import Iterable, Mapping
from typing import Any

from nas.formatting import number
from nas.report.health.check import Check, Verdict
from nas.report.importance import choice_of
from nas.report.words import space_of
from nas.results import Objective, StudyRecord, TrialResult
from nas.space.architecture_space import Space
from nas.space.parameter_space import ParameterSpace

FEWEST, SHARE, MOST_OF = 10, 5, 2 / 3
"""So many trials are needed. The best are one in five, three at least, and two thirds of them agree."""
DRAWS, MOST_VALUES = 400, 64
"""So many draws show the values of each choice; one with more values than that is continuous."""
FEWEST_VALUES = 3


def edges(record: StudyRecord) -> Check:
    """Tells which numeric choices have their best value at the edge, for each trained objective."""
    eligible = [trial for trial in record.trials if trial.eligible and trial.params]
    wanted = [o for o in record.objectives if not o.means.cheap]
    if len(eligible) < FEWEST or not wanted:
        text = f"{len(eligible)} trials trained to their end are too few to tell; {FEWEST} are needed."
        return Check("edges", Verdict.UNKNOWN, text, {"trials": len(eligible), "edges": []})
    offered = values_offered(record)
    found = [edge for objective in wanted for edge in _edges_of(objective, eligible, offered)]
    numbers = {"trials": len(eligible), "edges": found}
    if not found:
        return Check("edges", Verdict.OK, "No best value of a choice lies at the edge of the space.", numbers)
    parts = [
        f"The best by {edge['metric']} have {edge['choice']} {number(edge['value'])}, the {edge['edge']} offered."
        for edge in found
    ]
    return Check("edges", Verdict.LOOK, " ".join([*parts, "A wider space may hold better ones."]), numbers)


def values_offered(record: StudyRecord) -> dict[str, list[float]]:
    """Returns the values of each numeric choice that has several, in order, as draws of the space show them."""
    space, generator, seen = space_of(record), random.Random(0), dict[str, set[Any]]()
    if space is None:
        return {}
    for _ in range(DRAWS):
        for choice, values in _choices(_draw(space, generator)).items():
            seen.setdefault(choice, set()).update(values)
    rates = record.settings.get("train", {}).get("learning_rate")
    if isinstance(rates, list):
        seen["learning_rate"] = set(rates)
    return {
        choice: sorted(values)
        for choice, values in seen.items()
        if FEWEST_VALUES <= len(values) <= MOST_VALUES and all(map(_is_number, values))
    }


def _draw(space: Space | ParameterSpace, generator: random.Random) -> Mapping[str, Any]:
    """Returns the parameters of a random draw."""
    if isinstance(space, ParameterSpace):
        return space.params_of(space.sample(generator))
    return space.params_of(space.sample(generator)) or {}


def _edges_of(
    objective: Objective, trials: list[TrialResult], offered: Mapping[str, list[float]]
) -> Iterable[dict[str, Any]]:
    sign = 1 if objective.goal == "min" else -1
    valued = [t for t in trials if math.isfinite(t.metrics.get(objective.metric, math.nan))]
    order = sorted(valued, key=lambda t: (sign * t.metrics[objective.metric], t.number))
    best = [_choices(trial.params) for trial in order[: max(3, math.ceil(len(order) / SHARE))]]
    for choice, values in offered.items():
        chosen = [each[choice] for each in best if choice in each]
        for name, edge in (("smallest", values[0]), ("largest", values[-1])):
            agree = sum(set(each) == {edge} for each in chosen)
            if len(chosen) >= 3 and set(best[0].get(choice, ())) == {edge} and agree >= MOST_OF * len(chosen):
                yield {"metric": objective.metric, "choice": choice, "value": edge, "edge": name}


def _choices(params: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Returns the values of each choice; one that is made block by block has several."""
    found: dict[str, list[Any]] = {}
    for name, value in params.items():
        found.setdefault(choice_of(name), []).append(value)
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
