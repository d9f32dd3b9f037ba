"""`nas init`: a study file to start from."""

from pathlib import Path
from typing import Annotated

import typer


def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to write.")] = Path("study.toml"),
) -> None:
    """Write a study file to start from.

    Every part has its comment. Prints the path.

    Exit codes: 0; 4 when the file exists, which stays as it is; 5 when it cannot be written.
    """
    from nas.api.starter import write_starter
    from nas.cli.output import people, tell

    write_starter(path)
    tell(str(path))
    people().print(f"Next: nas check {path}, then nas search {path}", soft_wrap=True)
