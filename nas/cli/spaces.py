"""`nas spaces`: the study files at hand."""

from pathlib import Path

FOLDER = Path("search_spaces")


def spaces() -> None:
    """List the study files in search_spaces/.

    How many architectures each holds, its objectives and its task. A broken file is listed with its error.

    Exit code 0.
    """
    from nas.cli.output import people
    from nas.cli.tables import answers, table
    from nas.errors import NasError
    from nas.settings import study_file
    from nas.space.architecture_space import Space

    files = sorted(FOLDER.glob("*.toml"))
    if not files:
        people().print(f"No study file in {FOLDER}/: nas init {FOLDER}/mine.toml   writes one to start from")
        return
    shown = table(f"{FOLDER}/", "size", "objectives", "task", numbers=("size",))
    for path in files:
        try:
            file = study_file.load(path)
        except NasError as error:
            shown.add_row(path.name, "", f"broken: {error.message}", "")
        else:
            objectives = "\n".join(f"{o.goal} {o.metric}" for o in file.objective_list())
            task = f"{file.task.kind}\n{file.task.data}, context {file.task.context}"
            shown.add_row(path.name, f"{Space(file.spaces()).size():,}", objectives, task)
    answers().print(shown)
