"""`nas list`: the studies at hand."""

from typing import Any

from nas.cli.options import Json


def list_studies(json: Json = False) -> None:
    """List the studies under runs/.

    How far each is, the size of its front, whether it is running. One that cannot be read is listed with its error.

    Exit code 0.
    """
    from nas.cli.output import emit, people
    from nas.cli.tables import answers, moment, table
    from nas.study.stored_study import runs_folder

    rows = [_row(path.parent.name) for path in sorted(runs_folder().glob("*/study.db"))]
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


def _row(name: str) -> dict[str, Any]:
    from nas.errors import NasError
    from nas.study import open_study
    from nas.study.standing import standing

    try:
        now = standing(open_study(name))
    except NasError as error:
        return {"study": name, "error": error.message}
    return {key: now[key] for key in ("study", "trained", "budget", "front", "running", "created")}
