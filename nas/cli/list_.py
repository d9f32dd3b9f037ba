"""`nas list` lists the studies under runs/."""

from nas.cli.options import STORAGE, Json, Storage
from nas.formatting import moment


def list_studies(storage: Storage = None, json: Json = False) -> None:
    """List the studies under runs/, or in a database.

    Shows the progress of each, the size of its front, and whether it is running. A study that cannot be read is listed
    with its error.

    Exit code 0.
    """
    from nas.api.study import studies
    from nas.cli.output import emit, people
    from nas.cli.tables import answers, table
    from nas.study.database_place import database_place
    from nas.study.stored_study import runs_folder

    rows = studies(storage, STORAGE)
    if json:
        for row in rows:
            emit("study", **row)
        emit("result", studies=len(rows))
        return
    if not rows:
        place = database_place(storage, STORAGE)
        where = f"{runs_folder()}/" if place is None else str(place)
        people().print(f"No study in {where} yet: nas search search_spaces/tiny_lm.toml", soft_wrap=True)
        return
    shown = table("study", "trained", "front", "running", "created", numbers=("trained", "front"))
    for row in rows:
        if "error" in row:
            shown.add_row(row["study"], "", "", "", row["error"])
        else:
            progress, running = f"{row['trained']} of {row['budget']}", "yes" if row["running"] else "no"
            shown.add_row(row["study"], progress, str(len(row["front"])), running, moment(row["created"]))
    answers().print(shown)
