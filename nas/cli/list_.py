"""`nas list` lists the studies under runs/."""

from nas.cli.options import Json
from nas.formatting import moment


def list_studies(json: Json = False) -> None:
    """List the studies under runs/.

    Shows the progress of each, the size of its front, and whether it is running. A study that cannot be read is listed
    with its error.

    Exit code 0.
    """
    from nas.api.study import studies
    from nas.cli.output import emit, people
    from nas.cli.tables import answers, table
    from nas.study.stored_study import runs_folder

    rows = studies()
    if json:
        for row in rows:
            emit("study", **row)
        emit("result", studies=len(rows))
        return
    if not rows:
        people().print(f"No study in {runs_folder()}/ yet: nas search search_spaces/tiny_lm.toml")
        return
    shown = table("study", "trained", "front", "running", "created", numbers=("trained", "front"))
    for row in rows:
        if "error" in row:
            shown.add_row(row["study"], "", "", "", row["error"])
        else:
            progress, running = f"{row['trained']} of {row['budget']}", "yes" if row["running"] else "no"
            shown.add_row(row["study"], progress, str(len(row["front"])), running, moment(row["created"]))
    answers().print(shown)
