"""`nas delete` deletes a stored study."""

from typing import Annotated

import typer

from nas.cli.options import FOLDER, STORAGE, Folder, Storage, StudyName
from nas.errors import UsageError


def delete(
    study: StudyName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    storage: Storage = None,
    folder: Folder = None,
) -> None:
    """Delete a study, with its trials and their weights.

    Deletes what nas wrote and nothing else; reports stay. It asks first, where there is a terminal to answer on.

    Exit codes: 0; 1 when the answer is no; 2 when there is no such study, or nobody to ask; 4 while it is searched.
    """
    import sys

    from nas.api.study import open_study
    from nas.cli.output import people
    from nas.study.run_folders import folder_place

    found = open_study(study, storage, STORAGE, folder=folder_place(folder, FOLDER))
    elsewhere = found.files_elsewhere
    where = f" in {found.storage}" if found.storage else ""
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("there is nobody to ask", where="--yes", help="give --yes to delete the study unasked")
        trials = len(found.trials())
        typer.confirm(f"Delete study {found.name}{where}, {trials} trials, with {found.folder}?", abort=True, err=True)
    left = found.delete()
    people().print(f"Study {found.name}{where} is deleted.", soft_wrap=True)
    if elsewhere:
        people().print(f"Files stay: {elsewhere}", soft_wrap=True)
    if left:
        names = ", ".join(path.name for path in left[:5])
        people().print(f"{found.folder} stays, as nas did not write: {names}", soft_wrap=True)
