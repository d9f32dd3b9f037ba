"""Finds the folder with the weights of a trial: what `nas train` wrote for it, else what the search kept."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nas import files
from nas.errors import UsageError
from nas.study import checked
from nas.study.stored_study import StoredStudy
from nas.study.trained_models import trained_folders
from nas.training.folder_names import MODEL_FILES, WEIGHTS
from nas.trial_files import MOST_BYTES


@contextmanager
def weights_of(study: StoredStudy, number: int) -> Iterator[Path]:
    """Gives the folder of the trial's newest weights, to be read now: what a URL keeps is a copy that goes afterwards.

    Raises UsageError when there are none, Conflict for files that are links or too large, and OutOfReach.
    """
    study.trial(number)
    study.require_built_in("nas generate")
    if trained := trained_folders(study, number):
        yield files.refuse_links(study.folder, *trained[0].relative_to(study.folder).parts)
        return
    kept = None if study.files_elsewhere else study.run_folder.trial(number)
    if kept is None or WEIGHTS not in kept.names():
        raise UsageError(
            f"trial {number} of study '{study.name}' has no weights" + (" here" if kept is None else ""),
            code="no-weights",
            detail=study.files_elsewhere or "the search keeps the weights of its front only",
            help=f"nas train {study.in_commands} {number}",
        )
    for name in MODEL_FILES:
        try:
            with suppress(FileNotFoundError):  # loading tells which one is missing
                kept.fetch(name, MOST_BYTES)
        except ValueError as error:
            checked.damaged(kept.place, name, str(error), "a file of a trained model")
    yield kept.path
