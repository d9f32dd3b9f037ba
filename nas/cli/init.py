"""`nas init` writes a study file to start from."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import naming_options


def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to write.")] = Path("study.toml"),
    task: Annotated[str, typer.Option("--task", metavar="NAME", help="The task of the file.")] = "language_modelling",
) -> None:
    """Write a study file to start from.

    Every part has a comment. Prints the path. docs/study_file.md lists the tasks.

    Exit codes: 0; 2 for an unknown task; 4 when the file exists, which stays unchanged; 5 when it cannot be written.
    """
    from nas.api.starter import write_starter
    from nas.cli.output import people, tell

    with naming_options():
        write_starter(path, task)
    tell(str(path))
    people().print(f"Next: nas check {path}, then nas search {path}", soft_wrap=True)
