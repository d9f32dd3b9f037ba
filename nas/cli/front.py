"""`nas front` lists the non-dominated trials, under limits given as options."""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nas.cli.options import STORAGE, Storage, StudyName, naming_options
from nas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.report.sureness import Sureness
    from nas.results import Constraint, StudyRecord, TrialResult

Format = Annotated[
    Literal["table", "json", "csv", "parquet"],
    typer.Option("--format", help="table for people; json, csv or parquet for programs."),
]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar='"METRIC<=NUMBER"', help="Keep trials within this limit: <=, <, >=, > or ==."),
]


def front(study: StudyName, where: Where = None, format: Format = "table", storage: Storage = None) -> None:
    """List the front of a study.

    The front holds the feasible trials that no other dominates: none is as good in every objective and better in one.
    With --where, it is computed from the trials within all limits.

    Exit codes: 0; 2 for an unknown metric or study; 3 when no trial is within the limits.
    """
    from nas.study import open_study
    from nas.study.limits import limits, within

    if format == "parquet" and sys.stdout.isatty():
        raise UsageError(
            "parquet cannot be shown on a terminal", where="--format", help="redirect it: ... > front.parquet"
        )
    stored = open_study(study, storage, STORAGE)
    with naming_options():
        record = within(stored.record(), where or [])
        limited = limits(record, where or [])
    if format == "table":
        _print_table(record, limited, stored.in_commands)
    else:
        _write(record, limited, format)


def _write(record: "StudyRecord", limited: "Sequence[Constraint]", format: str) -> None:
    import json

    from nas.cli.output import tell
    from nas.report import tables

    if format == "json":
        sys.stdout.write(json.dumps(tables.front_rows(record, limited), indent=2) + "\n")
        return
    frame = tables.to_frame(record)
    frame = frame[frame["on_front"]]
    if format == "csv":
        tell(frame.to_csv(index=False).removesuffix("\n"))
    else:
        sys.stdout.buffer.write(frame.to_parquet(index=False))


def _print_table(record: "StudyRecord", limited: "Sequence[Constraint]", study: str) -> None:
    from nas import pareto
    from nas.cli.tables import answers, heading, table
    from nas.report.sureness import Sureness

    objectives, sureness = record.objectives, Sureness.of(record, limited)
    members = sureness.ranked(pareto.front_of(record))
    values = [trial.values(objectives) or [] for trial in members]
    knee = pareto.knee(values, [objective.goal for objective in objectives])
    headings = [heading(objective.metric) for objective in objectives]
    sure = ["on front", "≈"] if any(sureness.member(trial) for trial in members) else []
    shown = table("trial", *headings, *sure, record.subject, numbers=("trial", *headings, "on front"))
    for i, trial in enumerate(members):
        found = [sureness.cell(trial, objective) for objective in objectives]
        cells = ["\n".join(filter(None, (cell.text, cell.small))) for cell in found]
        marks = ("*" if i == knee else "") + ("~" if trial.contended else "")
        told = [sureness.probability(trial), sureness.ties(trial)] if sure else []
        shown.add_row(f"{trial.number}{marks}", *cells, *told, trial.described)
    console = answers()
    console.print(shown)
    console.print("\n* the knee: nearest to the best of every objective at once")
    if any(trial.contended for trial in members):
        console.print("~ measured while other programs used the machine")
    for line in _explained(sureness, members, bool(limited)):
        console.print(line)
    if any(sureness.alone(trial) for trial in members) and not record.body:
        console.print("one seed: not trained again yet. This tells how sure the numbers are:")
        console.print(f"  nas confirm {study}", soft_wrap=True)


def _explained(sureness: "Sureness", members: "Sequence[TrialResult]", limited: bool) -> "list[str]":
    """Explains what the table says of each number's certainty."""
    lines = []
    if any(sureness.member(trial) for trial in members):
        within = " and within the limits" if limited else ""
        lines += [
            f"± 95 % interval of the mean: {sureness.basis()}",
            f"on front: the probability to be non-dominated{within}, among the trials trained again",
            f"≈ {sureness.tied()}" if sureness.tied() else "",
        ]
    return [line for line in [*lines, sureness.failures(), sureness.risen(members)] if line]
