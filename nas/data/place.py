"""Finds where a study's corpus lies, for processes with another current folder."""

from collections.abc import Container
from glob import has_magic
from typing import Any

from nas.data import fetch
from nas.data.catalogue import DATASETS
from nas.data.formats import HUGGING_FACE
from nas.data.text_source import KNOWN
from nas.folders import absolute, is_there
from nas.settings.study_file import StudyFile
from nas.settings.task_settings import TableTask, TextTask


def with_absolute_corpus(file: StudyFile) -> StudyFile:
    """Returns the settings with an absolute path of the corpus, for workers and later launches.

    Raises DataError for the folder of an unknown user.
    """
    task = file.task
    if isinstance(task, TableTask):
        changed: dict[str, Any] = {"corpus": _absolute(task.corpus, DATASETS)}
    elif isinstance(task, TextTask):
        corpus = task.corpus
        named = _absolute(corpus, KNOWN) if isinstance(corpus, str) else tuple(_absolute(each, ()) for each in corpus)
        changed = {"corpus": named, "tokenizer": task.tokenizer and str(absolute(fetch.path_of(task.tokenizer)))}
    else:
        return file
    return file.model_copy(update={"task": task.model_copy(update=changed)})


def _absolute(corpus: str, known: Container[str]) -> str:
    if corpus in known:
        return corpus  # even if a file of that name is in the current folder
    prefix = HUGGING_FACE if corpus.startswith(HUGGING_FACE) else ""
    path = fetch.path_of(corpus.removeprefix(prefix))
    if not (is_there(path, folder=bool(prefix)) or (not prefix and has_magic(corpus))):
        return corpus
    return f"{prefix}{absolute(path)}"
