"""Arguments and options that several commands share."""

from typing import Annotated

import typer

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="A name under runs/, or the path of its folder.")]
TrialNumber = Annotated[
    int, typer.Argument(metavar="TRIAL", min=0, help="The trial's number, as `nas front` lists it.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]
Verbose = Annotated[int, typer.Option("-v", "--verbose", count=True, help="More detail; -vv shows tracebacks.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-s", "--set", metavar="key=value", help="Override a key of the file, as in -s train.steps=100."),
]
