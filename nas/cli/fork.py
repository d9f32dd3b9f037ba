"""`nas fork` makes a new study out of a stored one, here or in another database."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import FOLDER, STORAGE, Json, StudyName
from nas.folders import require_current_folder


def fork(
    study: StudyName,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The name of the new study.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A changed study file; without one the copy is whole.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(STORAGE, metavar="URL", help="Where the new study is stored; default: where STUDY is.")
    ] = None,
    origin: Annotated[
        str | None, typer.Option("--from", metavar="URL", help="The database of STUDY, or local.")
    ] = None,
    folder: Annotated[
        str | None, typer.Option(FOLDER, metavar="PATH|URL", help="Where NEW's trials keep their files.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a new study out of a stored one.

    Without FILE the new study is whole and unchanged, also from SQLite to PostgreSQL and back. With FILE it takes over
    every trial that is still valid; nothing is trained again.

    Exit codes: 0; 2 for a wrong name or file; 4 when NEW exists, STUDY is being searched, or no trial is valid; 5
    when a database or disk is out of reach.
    """
    require_current_folder()
    from nas.api.forking import fork as forked
    from nas.cli.output import emit, people
    from nas.study.run_folders import folder_place

    kept = None if folder is None else folder_place(folder, FOLDER)
    made = forked(study, new, file, storage=storage, origin=origin, folder=kept, observer=_show)
    if json:
        emit("result", study=made.study.name, taken=made.taken, measured=made.measured, left=dict(made.left))
    console = people()
    anew = f", {made.measured} of them measured anew on this machine" if made.measured else ""
    console.print(f"Study {made.study.name} has {made.taken} trials of {study}{anew}.", soft_wrap=True)
    for why, count in made.left.items():
        console.print(f"Not taken: {count}, {why}", soft_wrap=True)


def _show(event: dict[str, object]) -> None:
    from nas.cli.output import people

    if event["type"] == "measured":
        people().print(f"trial {event['trial']} is measured on this machine", soft_wrap=True)
