"""Lists the trained models of a trial, and proposes a prompt for them. It reads JSON files only, and needs no torch."""

import json
from pathlib import Path
from typing import Any

from nas import files
from nas.study.stored_study import StoredStudy
from nas.training.folder_names import METRICS, VOCABULARY, WEIGHTS

MOST_BYTES = 2**24
PROMPT = "The "
LETTERS = 3
"""The length of a prompt for a vocabulary that lacks some letters of PROMPT."""


def trained_models(study: StoredStudy, number: int) -> list[dict[str, Any]]:
    """Returns {folder, steps, seed, test_loss} of each, newest first. The last is what the search kept, with a folder
    alone.

    What a folder does not tell is None.
    """
    told = [_told(folder) for folder in trained_folders(study, number)]
    kept = None if study.files_elsewhere else study.run_folder.trial(number)
    if kept is None or WEIGHTS not in kept.names():
        return told
    return [*told, {"folder": kept.place, "steps": None, "seed": None, "test_loss": None}]


def trained_folders(study: StoredStudy, number: int) -> list[Path]:
    """Returns the folders with weights that `nas train` wrote for the trial, newest first."""
    if study.missing_files:
        return []
    weights = [path for path in (study.folder / "trained").glob(f"{number}-s*/{WEIGHTS}") if path.is_file()]
    return [path.parent for path in sorted(weights, key=lambda path: path.stat().st_mtime, reverse=True)]


def prompt_for(folder: Path) -> str:
    """Returns a prompt of symbols that the model knows: "The " where it knows these letters, else some that it does."""
    vocabulary = _table(folder / VOCABULARY)
    symbols, coder = vocabulary.get("symbols"), vocabulary.get("coder")
    if coder == "subwords" or not isinstance(symbols, list):
        return PROMPT  # subwords write every text
    known = [symbol for symbol in symbols if isinstance(symbol, str) and not symbol.startswith("<")]
    if coder == "words":
        return " ".join(known[1 : 1 + LETTERS])
    characters = [symbol for symbol in known if len(symbol) == 1]
    if set(PROMPT) <= set(characters):
        return PROMPT
    letters = [character for character in characters if character.isalnum()]
    return "".join((letters or characters)[:LETTERS])


def _told(folder: Path) -> dict[str, Any]:
    table = _table(folder / METRICS)
    metrics = table.get("metrics")
    loss = metrics.get("test_loss") if isinstance(metrics, dict) else None
    return {"folder": str(folder), "steps": table.get("steps"), "seed": table.get("seed"), "test_loss": loss}


def _table(path: Path) -> dict[str, Any]:
    """Reads a JSON object; empty where the file is missing or damaged, which is reported when the model is loaded."""
    try:
        found = json.loads(files.read_bytes(path, MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
