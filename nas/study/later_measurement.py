"""Shows a finished row as a later measurement of its trial judges it."""

from collections.abc import Mapping, Sequence
from copy import copy

from optuna.trial import FrozenTrial

from nas.measurement import at_best_pace
from nas.measurement import with_later as newest
from nas.results import Constraint, Objective
from nas.study.checked import LIMIT


def violations(metrics: Mapping[str, float], constraints: Sequence[Constraint]) -> dict[str, float]:
    """Returns how far a trial with these metrics is over each limit."""
    judged = at_best_pace(metrics)
    return {constraint.metric: constraint.violation(judged) for constraint in constraints}


def with_later(
    row: FrozenTrial,
    later: Mapping[str, float],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
) -> FrozenTrial:
    """Returns a copy of the row with the values, metrics and limits of the later measurement; the row, without any.

    The database keeps the row as it was first told. Samplers and stopping rules get this copy, so they go by the same
    figures as the front.
    """
    if not later:
        return row
    now, metrics = copy(row), newest(row.user_attrs.get("metrics", {}), later)
    limits = {f"{LIMIT}{name}": violation for name, violation in violations(metrics, constraints).items()}
    now.user_attrs = {**row.user_attrs, "metrics": metrics}
    now.system_attrs = {**row.system_attrs, **limits}
    if row.values:
        now.values = [later.get(o.metric, value) for o, value in zip(objectives, row.values, strict=True)]
    return now
