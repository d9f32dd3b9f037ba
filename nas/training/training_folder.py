"""Checks the folder of a training by `nas train`, and reads what it says of itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.errors import Conflict
from nas.files import is_leftover, read_json
from nas.training.folder_names import METRICS, MODEL_FILES, WEIGHTS
from nas.training.model_folder import read_metadata

CHECKPOINT, LOG = "checkpoint.safetensors", "nas.log"
MARKS = {"architecture", "identity"}
"""The metadata of weights, and that of a checkpoint, hold these keys."""


def refuse_foreign(folder: Path) -> None:
    """Raises Conflict when the folder is a file, or holds anything other than a training of ours.

    A training is recognised by its weights or its checkpoint, which carry our mark. File names alone prove nothing.
    """
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    own = {*MODEL_FILES, CHECKPOINT}
    foreign = [name for name in names if name not in own | {LOG} and not is_leftover(name, own)]
    claimed = [name for name in names if name in own]
    if claimed and not any(_is_marked(folder / name) for name in (WEIGHTS, CHECKPOINT)):
        foreign = names
    if foreign or (folder.exists() and not folder.is_dir()):
        raise Conflict(
            "the folder holds something other than a training" if foreign else "a file has the name of the folder",
            code="not-a-training",
            where=str(folder),
            detail=f"found: {', '.join(foreign[:5])}" if foreign else "",
            help="give the training a folder of its own",
        )


def _is_marked(path: Path) -> bool:
    """Tells whether the file is one of tensors with the metadata that `nas` writes."""
    try:
        return not MARKS.isdisjoint(read_metadata(path))
    except (OSError, ValueError):
        return False


def stored_in(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Reads what a finished training wrote of itself. Raises Conflict when the folder holds another one."""
    try:
        stored = read_json(folder / METRICS)
    except (OSError, ValueError):
        stored = {}
    stored = stored if isinstance(stored, dict) else {}  # weights that no training here has written
    stored = {"changed": {}, "differences": {}, **stored}
    for key, value in identity.items():
        if stored.get(key) != value:
            raise Conflict(
                "the folder holds another training",
                code="trained-conflict",
                where=str(folder),
                detail=f"{key}: stored {stored.get(key)}, now {value}",
                help="choose another --out",
            )
    return stored
