"""Resolves the corpus of a study file: a relative path starts at the file's own folder."""

from pathlib import Path
from typing import Any

from nas.folders import is_there
from nas.settings.task_settings import TASK_KINDS

NAMED = {"python-docs", "tinyshakespeare", *(kind.corpus for kind in TASK_KINDS.values() if kind.corpus)}
"""These corpora are known by name, whatever files of the same name exist (nas.data holds them)."""
HUGGING_FACE = "hf:"


def place_corpus(data: dict[str, Any], folder: Path) -> None:
    """Resolves a relative `task.corpus`, each of a list, and `task.tokenizer` against the folder.

    A name without such a file or folder stays as it is: it may be a misspelt data set, or one of the hub.
    """
    task = data.get("task")
    if not isinstance(task, dict):
        return
    corpus, tokenizer = task.get("corpus"), task.get("tokenizer")
    if isinstance(corpus, str):
        task["corpus"] = _placed(corpus, folder)
    elif isinstance(corpus, list):
        task["corpus"] = [_placed(each, folder) if isinstance(each, str) else each for each in corpus]
    if isinstance(tokenizer, str) and tokenizer and not tokenizer.startswith("~"):
        task["tokenizer"] = str(folder / tokenizer)


def _placed(corpus: str, folder: Path) -> str:
    if corpus in NAMED or corpus.startswith("~"):
        return corpus
    prefix = HUGGING_FACE if corpus.startswith(HUGGING_FACE) else ""
    named = corpus.removeprefix(prefix)
    beside = folder / named
    looks_like_a_path = not prefix and ("/" in named or "." in named)
    if named and (looks_like_a_path or is_there(beside, bool(prefix))):
        return f"{prefix}{beside}"
    return corpus
