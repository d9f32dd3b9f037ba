"""`nas spaces` lists the study files in search_spaces/."""

from pathlib import Path


def spaces() -> None:
    """List the study files in search_spaces/.

    Shows how many architectures each holds, its objectives and its task. A file with an error is listed with it.

    Exit code 0.
    """
    from nas.api import spaces as files
    from nas.cli.output import people
    from nas.cli.tables import answers, table

    rows, folder = files.spaces(), files.FOLDER
    if not rows:
        people().print(f"No study file in {folder}/: nas init {folder}/mine.toml   writes one to start from")
        return
    shown = table(f"{folder}/", "size", "objectives", "task", numbers=("size",))
    for row in rows:
        name = Path(row["file"]).name
        if "error" in row:
            shown.add_row(name, "", f"broken: {row['error']}", "")
        else:
            context = "" if row["context"] is None else f", context {row['context']}"
            task, size = f"{row['task']}\n{row['data']}{context}", row["size"]
            shown.add_row(name, "continuous" if size is None else f"{size:,}", "\n".join(row["objectives"]), task)
    answers().print(shown)
