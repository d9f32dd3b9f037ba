"""`nas front`: the non-dominated trials, under limits given on the spot."""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nas.cli.options import StudyName
from nas.errors import NothingFeasible, UsageError, nearest

if TYPE_CHECKING:
    from nas.results import StudyRecord, TrialResult

Format = Annotated[
    Literal["table", "json", "csv", "parquet"],
    typer.Option("--format", help="table for people; json, csv or parquet for programs."),
]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar='"METRIC<=NUMBER"', help="Keep trials within this limit: <=, <, >=, > or ==."),
]


def front(study: StudyName, where: Where = None, format: Format = "table") -> None:
    """List the front of a study.

    Its members are the feasible trials that no other beats: none is as good in every objective and better in one.
    Limits come first: the front is taken of the feasible trials within all of them.

    Exit codes: 0; 2 for an unknown metric or study; 3 when no trial is within the limits.
    """
    from nas.study import open_study

    if format == "parquet" and sys.stdout.isatty():
        raise UsageError("parquet is not for a terminal", where="--format", help="redirect it: ... > front.parquet")
    stored = open_study(study)
    record = within(stored.record(), where or [])
    if format == "table":
        _print_table(record)
    else:
        _write(record, format)


@dataclass(frozen=True)
class Limit:
    """One --where: METRIC OPERATOR NUMBER."""

    metric: str
    operator: str
    bound: float

    def excess(self, value: float) -> float:
        """How far the value is from being within the limit: 0 is within."""
        over, under = value - self.bound, self.bound - value
        distance = {"<=": over, "<": over, ">=": under, ">": under, "==": abs(over)}[self.operator]
        strict = self.operator in ("<", ">") and distance == 0
        return sys.float_info.min if strict else max(0.0, distance)

    def __str__(self) -> str:
        return f"{self.metric} {self.operator} {self.bound:g}"


def within(record: "StudyRecord", wheres: Iterable[str]) -> "StudyRecord":
    """The record with those trials alone that may stand on a front under these limits.

    Raises UsageError for an unknown metric, NothingFeasible with the nearest value when no trial is left.
    """
    eligible = tuple(trial for trial in record.trials if trial.eligible)
    if not eligible:
        help = f"nas status {record.name}   tells what became of its trials"
        raise NothingFeasible(f"no trial of study '{record.name}' is complete and feasible", help=help)
    metrics = set[str]().union(*(trial.metrics for trial in eligible))
    limits = [_parse(where, metrics) for where in wheres]
    left = _filter(eligible, limits)
    if not left:
        raise _nothing(eligible, limits)
    return replace(record, trials=left)


def _filter(trials: "tuple[TrialResult, ...]", limits: Iterable[Limit]) -> "tuple[TrialResult, ...]":
    for limit in limits:
        trials = tuple(t for t in trials if limit.metric in t.metrics and not limit.excess(t.metrics[limit.metric]))
    return trials


def _parse(text: str, metrics: Iterable[str]) -> Limit:
    match = re.fullmatch(r"\s*(\S.*?)\s*(<=|>=|==|<|>)\s*([^\s<>=]+)\s*", text)
    try:
        bound = float(match[3]) if match else None
    except ValueError:
        bound = None
    if match is None or bound is None or bound != bound:
        help = 'for example --where "decode_ms_per_token<=0.8"; operators: <=, <, >=, >, =='
        raise UsageError(f"expected METRIC OPERATOR NUMBER, got '{text}'", where="--where", help=help)
    if match[1] not in metrics:
        help = nearest(match[1], metrics)
        raise UsageError(f"unknown metric '{match[1]}'", code="unknown-metric", where="--where", help=help)
    return Limit(match[1], match[2], bound)


def _nothing(eligible: "tuple[TrialResult, ...]", limits: list[Limit]) -> NothingFeasible:
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
        where="--where",
        detail="\n".join(lines),
        help="loosen a limit, or search on with it as a constraint",
    )


def _write(record: "StudyRecord", format: str) -> None:
    import json

    from nas.report import tables

    if format == "json":
        sys.stdout.write(json.dumps(tables.front_rows(record), indent=2) + "\n")
        return
    frame = tables.to_frame(record)
    frame = frame[frame["on_front"]]
    if format == "csv":
        frame.to_csv(sys.stdout, index=False)
    else:
        sys.stdout.buffer.write(frame.to_parquet(index=False))


def _print_table(record: "StudyRecord") -> None:
    from nas import pareto
    from nas.cli.tables import answers, heading, number, spread, table

    members, objectives = pareto.front_of(record), record.objectives
    values = [trial.values(objectives) or [] for trial in members]
    knee = pareto.knee(values, [objective.goal for objective in objectives])
    headings = [heading(objective.metric) for objective in objectives]
    shown = table("trial", *headings, "architecture", numbers=("trial", *headings))
    for i, trial in enumerate(members):
        cells = [
            "\n".join(filter(None, (number(trial.metrics[o.metric]), spread(trial.metrics, o.metric))))
            for o in objectives
        ]
        marks = ("*" if i == knee else "") + ("~" if trial.contended else "")
        shown.add_row(f"{trial.number}{marks}", *cells, str(trial.model))
    console = answers()
    console.print(shown)
    console.print("\n* the knee: nearest to the best of every objective at once")
    if any(trial.contended for trial in members):
        console.print("~ measured while something else ran on the machine")
