"""Prepares the data of a study ahead of a search, lists what is prepared, and deletes it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nas.data import token_cache
from nas.data.text_census import Progress, silent
from nas.errors import UsageError
from nas.settings import study_file
from nas.settings.study_file import StudyFile
from nas.settings.task_settings import TableTask, TextTask

if TYPE_CHECKING:
    from nas.tasks.table import TableData


def prepare_data(file: StudyFile | Path | str, progress: Progress = silent) -> dict[str, Any]:
    """Prepares the text or the table of a study file, as its first search would, and describes what was prepared.

    Returns {name, sha256, characters, tokens, vocabulary, bytes, folder, seconds}, with `rows` in place of `characters`
    for a table; `folder` is None where the cache cannot be written. `progress(stage, done, size)` is called while a
    text is read or encoded (characters), or a table (rows).

    Raises DataError, and UsageError for a study whose data is neither.
    """
    settings = file if isinstance(file, StudyFile) else study_file.load(file)
    if settings.trial or not isinstance(settings.task, TextTask | TableTask):
        raise UsageError(
            "the study's data is neither a text nor a table, and nothing of it is kept",
            code="nothing-to-prepare",
            where="task.kind",
            help="only tasks on a text or a table have tokens to prepare",
        )
    from nas.tasks import open_task  # imports torch, which listing and deleting do without
    from nas.tasks.text import TextTask as OpenTextTask

    started = time.monotonic()
    task = open_task(settings.task, progress)
    described = task.describe()
    if isinstance(task, OpenTextTask):
        entry, tokens, size = task.text.entry, len(task.tokens_N), {"characters": described["characters"]}
    else:
        data = cast("TableData", task.data)  # type: ignore[attr-defined]  # every task on a table has it
        entry, tokens, size = data.entry, data.count_tokens(), {"rows": len(data.table.rows)}
    return {
        "name": described["name"],
        "sha256": described["sha256"],
        **size,
        "tokens": tokens,
        "vocabulary": task.vocabulary,
        "bytes": sum(array.nbytes for array in entry.arrays.values()),
        "folder": str(entry.folder) if entry.folder else None,
        "seconds": time.monotonic() - started,
    }


def prepared_data() -> list[dict[str, Any]]:
    """Lists the prepared texts and tables of this machine's cache: {name, sha256, bytes, folder} each."""
    return [
        {"name": about["name"], "sha256": about["sha256"], "bytes": size, "folder": str(folder)}
        for folder, about, size in token_cache.entries()
    ]


def clean_data() -> dict[str, int]:
    """Deletes the prepared texts and tables of this machine's cache. Returns {texts, bytes}, which were deleted.

    The next search on one of them prepares it again. Downloaded data sets stay. Raises OutOfReach.
    """
    texts, size = token_cache.clean()
    return {"texts": texts, "bytes": size}
