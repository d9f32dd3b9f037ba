"""Finds the folder with the weights of a trial: what `nas train` wrote for it, else what the search kept."""

from pathlib import Path

from nas import files
from nas.errors import UsageError
from nas.study.stored_study import StoredStudy
from nas.study.trained_models import trained_models


def weights_of(study: StoredStudy, number: int) -> Path:
    """Returns the folder of the trial's newest weights. Raises UsageError when it has none."""
    study.trial(number)
    study.require_built_in("nas generate")
    if found := trained_models(study, number):
        folder = Path(found[0]["folder"])
        return files.refuse_links(study.folder, *folder.relative_to(study.folder).parts)
    raise UsageError(
        f"trial {number} of study '{study.name}' has no weights",
        code="no-weights",
        detail=study.missing_files or "the search keeps the weights of its front only",
        help=f"nas train {study.in_commands} {number}",
    )
