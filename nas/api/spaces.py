"""Lists study files."""

from pathlib import Path
from typing import Any

from nas.errors import NasError
from nas.folders import names_in
from nas.settings import study_file
from nas.space.parameter_settings import ParameterSettings

FOLDER = Path("search_spaces")


def spaces(folder: Path | str = FOLDER) -> list[dict[str, Any]]:
    """Lists the study files in a folder: `file`, `size` (number of architectures), `objectives`, `task`, `data` and
    `context`.

    The size is None where a parameter is continuous, and the context where the training is the user's own. A file that
    cannot be read has `file` and `error` alone. Raises OutOfReach where this user may not read the folder.
    """
    return [_row(Path(folder) / name) for name in names_in(Path(folder)) if name.endswith(".toml")]


def _row(path: Path) -> dict[str, Any]:
    try:
        file = study_file.load(path)
    except NasError as error:
        return {"file": str(path), "error": error.message}
    if file.trial or isinstance(file.space, ParameterSettings):
        body = file.trial.body if file.trial else "given in Python"
        what: dict[str, Any] = {"task": "own training", "data": body, "context": None}
    else:
        what = {"task": file.task.kind, "data": file.task.data, "context": file.task.context}
    return {
        "file": str(path),
        "size": file.search_space().size(),
        "objectives": [f"{o.goal} {o.metric}" for o in file.objective_list()],
        **what,
    }
