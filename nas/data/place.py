"""Finds where a study's corpus lies, for processes with another current folder."""

from nas.data import fetch
from nas.data.catalogue import DATASETS
from nas.data.formats import HUGGING_FACE
from nas.data.text import CORPORA
from nas.folders import absolute, is_there
from nas.settings.study_file import StudyFile
from nas.settings.task_settings import TableTask, TextTask


def with_absolute_corpus(file: StudyFile) -> StudyFile:
    """Returns the settings with an absolute path of the corpus, for workers and later launches.

    Raises DataError for the folder of an unknown user.
    """
    task = file.task
    if not isinstance(task, (TextTask, TableTask)):
        return file
    if task.corpus in (CORPORA if isinstance(task, TextTask) else DATASETS):
        return file  # even if a file of that name is in the current folder
    prefix = HUGGING_FACE if task.corpus.startswith(HUGGING_FACE) else ""
    path = fetch.path_of(task.corpus.removeprefix(prefix))
    if not is_there(path, folder=bool(prefix)):
        return file
    return file.model_copy(update={"task": task.model_copy(update={"corpus": f"{prefix}{absolute(path)}"})})
