"""Resolves the corpus of a study file: a relative path starts at the file's own folder."""

from pathlib import Path
from typing import Any

from nas.folders import is_there
from nas.settings.task_settings import TASK_KINDS

NAMED = {"python-docs", "tinyshakespeare", *(kind.corpus for kind in TASK_KINDS.values() if kind.corpus)}
"""These corpora are known by name, whatever files of the same name exist (nas.data holds them)."""
HUGGING_FACE = "hf:"


def place_corpus(data: dict[str, Any], folder: Path) -> None:
    """Resolves a relative `task.corpus` against the folder.

    A name without such a file or folder stays as it is: it may be a misspelt data set, or one of the hub.
    """
    task = data.get("task")
    corpus = task.get("corpus") if isinstance(task, dict) else None
    if not isinstance(task, dict) or not isinstance(corpus, str) or corpus in NAMED or corpus.startswith("~"):
        return
    prefix = HUGGING_FACE if corpus.startswith(HUGGING_FACE) else ""
    named = corpus.removeprefix(prefix)
    beside = folder / named
    looks_like_a_path = not prefix and ("/" in named or "." in named)
    if named and (looks_like_a_path or is_there(beside, bool(prefix))):
        task["corpus"] = f"{prefix}{beside}"
