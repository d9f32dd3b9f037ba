"""`nas front` lists the non-dominated trials, under limits given as options."""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nas.cli.options import STORAGE, Storage, StudyName, naming_options
from nas.errors import UsageError
from nas.formatting import number, spread

if TYPE_CHECKING:
    from nas.results import StudyRecord

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
    from nas.study.limits import within

    if format == "parquet" and sys.stdout.isatty():
        raise UsageError(
            "parquet cannot be shown on a terminal", where="--format", help="redirect it: ... > front.parquet"
        )
    stored = open_study(study, storage, STORAGE)
    with naming_options():
        record = within(stored.record(), where or [])
    if format == "table":
        _print_table(record)
    else:
        _write(record, format)


def _write(record: "StudyRecord", format: str) -> None:
    import json

    from nas.cli.output import tell
    from nas.report import tables

    if format == "json":
        sys.stdout.write(json.dumps(tables.front_rows(record), indent=2) + "\n")
        return
    frame = tables.to_frame(record)
    frame = frame[frame["on_front"]]
    if format == "csv":
        tell(frame.to_csv(index=False).removesuffix("\n"))
    else:
        sys.stdout.buffer.write(frame.to_parquet(index=False))


def _print_table(record: "StudyRecord") -> None:
    from nas import pareto
    from nas.cli.tables import answers, heading, table

    members, objectives = pareto.front_of(record), record.objectives
    values = [trial.values(objectives) or [] for trial in members]
    knee = pareto.knee(values, [objective.goal for objective in objectives])
    headings = [heading(objective.metric) for objective in objectives]
    shown = table("trial", *headings, record.subject, numbers=("trial", *headings))
    for i, trial in enumerate(members):
        cells = [
            "\n".join(filter(None, (number(trial.metrics[o.metric]), spread(trial.metrics, o.metric))))
            for o in objectives
        ]
        marks = ("*" if i == knee else "") + ("~" if trial.contended else "")
        shown.add_row(f"{trial.number}{marks}", *cells, trial.described)
    console = answers()
    console.print(shown)
    console.print("\n* the knee: nearest to the best of every objective at once")
    if any(trial.contended for trial in members):
        console.print("~ measured while other programs used the machine")
