"""Lists the trained models of a trial, and proposes a prompt for them. Reads their JSON files alone: no torch here."""

import json
from pathlib import Path
from typing import Any

from nas import files
from nas.study.stored_study import StoredStudy
from nas.training.folder_names import METRICS, VOCABULARY, WEIGHTS

MOST_BYTES = 2**24
PROMPT = "The "
LETTERS = 3
"""The length of a prompt for a vocabulary that lacks some of PROMPT."""


def trained_models(study: StoredStudy, number: int) -> list[dict[str, Any]]:
    """{folder, steps, seed, test_loss} of each, newest first; last what the search kept, which has only a folder.

    What a folder does not tell is None.
    """
    weights = [path for path in (study.folder / "trained").glob(f"{number}-s*/{WEIGHTS}") if path.is_file()]
    newest = [path.parent for path in sorted(weights, key=lambda path: path.stat().st_mtime, reverse=True)]
    kept = study.trial_folder(number)
    return [_told(folder) for folder in (*newest, *([kept] if (kept / WEIGHTS).is_file() else []))]


def prompt_for(folder: Path) -> str:
    """A prompt of symbols that the model knows: "The " where it knows its letters, else some that it does."""
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
    """A JSON object; empty where the file is missing or broken, which is told where the model is loaded."""
    try:
        found = json.loads(files.read_bytes(path, MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
