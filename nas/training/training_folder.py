"""The folder of a training by `nas train`: what may stand in it, and what it says of itself."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.errors import Conflict
from nas.training.folder_names import ARCHITECTURE, METRICS, VOCABULARY, WEIGHTS

CHECKPOINT = "checkpoint.safetensors"


def refuse_foreign(folder: Path) -> None:
    """Raises Conflict when the folder is a file, or holds what no training writes."""
    own = {WEIGHTS, ARCHITECTURE, VOCABULARY, METRICS, CHECKPOINT, "nas.log"}
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    # A file that was being written when its process was killed is named .NAME.PROCESS.tmp.
    foreign = sorted(name for name in names if name not in own and not name.endswith(".tmp"))
    if foreign or (folder.exists() and not folder.is_dir()):
        raise Conflict(
            "the folder holds something else than a training" if foreign else "a file stands where the folder belongs",
            code="not-a-training",
            where=str(folder),
            detail=f"found: {', '.join(foreign[:5])}" if foreign else "",
            help="give the training a folder of its own",
        )


def stored_in(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Reads what a finished training wrote of itself. Raises Conflict when the folder holds another one."""
    try:
        stored: dict[str, Any] = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stored = {}  # weights that no training here has written
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
