"""Tells a user who names a study file that is not there which one may be meant."""

from difflib import get_close_matches
from pathlib import Path

from nas.errors import LONGEST_NAME
from nas.folders import is_there

SPACES = "search_spaces"
PROJECT = "pyproject.toml"
"""This file is in the way of many projects, and never a study file."""


def which_file(path: Path) -> str:
    """Returns the help for an absent study file: one of a near name, beside it or under search_spaces/."""
    folders = [folder for folder in (Path(SPACES), path.parent) if is_there(folder, folder=True)]
    there = {file.stem: file for folder in folders for file in sorted(folder.glob("*.toml")) if file.name != PROJECT}
    close = get_close_matches(path.stem[:LONGEST_NAME], list(there), n=1, cutoff=0.5)
    meant = f"did you mean '{there[close[0]]}'?\n" if close else ""
    written = path.with_suffix(".toml") if path.name else Path("study.toml")
    return f"{meant}nas spaces   lists the study files at hand\nnas init {written}   writes one to start from"
