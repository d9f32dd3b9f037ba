"""The study files at hand."""

from pathlib import Path
from typing import Any

from nas.errors import NasError
from nas.settings import study_file
from nas.space.architecture_space import Space

FOLDER = Path("search_spaces")


def spaces(folder: Path | str = FOLDER) -> list[dict[str, Any]]:
    """The study files in a folder: `file`, `size` (its architectures), `objectives`, `task`, `data` and `context`.

    A broken one has `file` and `error` alone.
    """
    return [_row(path) for path in sorted(Path(folder).glob("*.toml"))]


def _row(path: Path) -> dict[str, Any]:
    try:
        file = study_file.load(path)
    except NasError as error:
        return {"file": str(path), "error": error.message}
    return {
        "file": str(path),
        "size": Space(file.spaces()).size(),
        "objectives": [f"{o.goal} {o.metric}" for o in file.objective_list()],
        "task": file.task.kind,
        "data": file.task.data,
        "context": file.task.context,
    }
