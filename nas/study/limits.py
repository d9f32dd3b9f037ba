"""Applies limits to stored trials: which of them may stand on the front under METRIC<=NUMBER, as `--where` gives it."""

import math
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace

from nas.errors import NothingFeasible, UsageError, nearest
from nas.results import Constraint, StudyRecord, TrialResult

OPERATOR = re.compile("(<=|>=|==|<|>)")


@dataclass(frozen=True)
class Limit:
    """Holds one `--where` option: METRIC OPERATOR NUMBER."""

    metric: str
    operator: str
    bound: float

    def excess(self, value: float) -> float:
        """Tells how far the value is outside the limit; 0 is within."""
        over, under = value - self.bound, self.bound - value
        distance = {"<=": over, "<": over, ">=": under, ">": under, "==": abs(over)}[self.operator]
        strict = self.operator in ("<", ">") and distance == 0
        return sys.float_info.min if strict else max(0.0, distance)

    @property
    def constraint(self) -> Constraint:
        """Returns the limit as a study states it; < and > count as <= and >=."""
        below, above = self.operator in ("<=", "<", "=="), self.operator in (">=", ">", "==")
        return Constraint(self.metric, self.bound if below else None, self.bound if above else None)

    def __str__(self) -> str:
        return f"{self.metric} {self.operator} {self.bound:g}"


def within(record: StudyRecord, wheres: Iterable[str]) -> StudyRecord:
    """Returns the record with only those trials that may stand on a front under these limits.

    Raises UsageError for an unknown metric, and NothingFeasible with the nearest value when no trial is left.
    """
    eligible = tuple(trial for trial in record.trials if trial.eligible)
    if not eligible:
        help = f"nas status {record.name}   shows how its trials ended"
        raise NothingFeasible(f"no trial of study '{record.name}' is complete and feasible", help=help)
    metrics = set[str]().union(*(trial.metrics for trial in eligible))
    limits = [_parse(where, metrics) for where in wheres]
    left = _filter(eligible, limits)
    if not left:
        raise _nothing(eligible, limits)
    return replace(record, trials=left)


def limits(record: StudyRecord, wheres: Iterable[str]) -> tuple[Constraint, ...]:
    """Returns these limits as a study states them, with what it declares of their metrics. Raises UsageError."""
    metrics = set[str]().union(*(trial.metrics for trial in record.trials))
    found = [_parse(where, metrics).constraint for where in wheres]
    return tuple(replace(limit, own=record.own_metrics.get(limit.metric)) for limit in found)


def _filter(trials: tuple[TrialResult, ...], limits: Iterable[Limit]) -> tuple[TrialResult, ...]:
    for limit in limits:
        trials = tuple(t for t in trials if limit.metric in t.metrics and not limit.excess(t.metrics[limit.metric]))
    return trials


def _parse(text: str, metrics: Iterable[str]) -> Limit:
    _, operator, number = ["", "", *OPERATOR.split(text)][-3:]
    metric = text[: len(text) - len(operator) - len(number)].strip() if operator else ""
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not metric or math.isnan(bound) or (metric not in metrics and metric.endswith(("<", "=", ">"))):
        help = 'for example "decode_ms_per_token<=0.8"; operators: <=, <, >=, >, =='
        raise UsageError(f"expected METRIC OPERATOR NUMBER, got '{text}'", where="where", help=help)
    if metric not in metrics:
        help = nearest(metric, metrics)
        raise UsageError(f"unknown metric '{metric}'", code="unknown-metric", where="where", help=help)
    return Limit(metric, operator, bound)


def _nothing(eligible: tuple[TrialResult, ...], limits: list[Limit]) -> NothingFeasible:
    """Names, for each limit that fails, the nearest value among the trials within all the others."""
    lines = []
    for limit in limits:
        others = _filter(eligible, [other for other in limits if other is not limit])
        having = [trial for trial in others or eligible if limit.metric in trial.metrics]
        if not having:
            lines.append(f"{limit}: no trial has this metric")
            continue
        trial = min(having, key=lambda trial: limit.excess(trial.metrics[limit.metric]))
        if limit.excess(trial.metrics[limit.metric]) > 0:
            lines.append(f"{limit}: the nearest is {trial.metrics[limit.metric]:g} (trial {trial.number})")
    return NothingFeasible(
        f"none of {len(eligible)} feasible trials is within {' and '.join(map(str, limits))}",
        where="where",
        detail="\n".join(lines),
        help="loosen a limit, or search again with it as a constraint",
    )
