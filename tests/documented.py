"""The keys that docs/commands.md documents for the `--json` of a benchmark."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs" / "commands.md").read_text(encoding="utf-8")


def section(command: str) -> str:
    return PAGE[PAGE.index(f"## {command}\n") :].split("\n## ")[0]


def keys_of_json(command: str) -> set[str]:
    """Returns the first part of each key in the list that follows: what stands before a colon, in each clause."""
    listed = section(command).split("The keys of `--json`")[1]
    return keys_of_list(listed[listed.index("\n\n- ") :].split("\n\n")[1])


def keys_of_list(text: str) -> set[str]:
    found = set[str]()
    for clause in re.split(r";|^- ", text, flags=re.MULTILINE):
        head, colon, _ = clause.partition(":")
        found |= {name.split(".")[0] for name in re.findall(r"`(.*?)`", head)} if colon else set()
    return found
