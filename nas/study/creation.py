"""Creates a study's database as a whole or not at all."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas import files
from nas.errors import Conflict
from nas.results import Objective
from nas.study import study_rows
from nas.study.database import (
    DATABASE,
    ENVIRONMENT,
    FOREIGN,
    file_url,
    is_our_environment,
    is_whole,
    sqlite_url,
)
from nas.study.lock import LOCK
from nas.study.store import Store
from nas.study.transactions import Database

SETTINGS = "study.toml"
COMPANIONS = ("-wal", "-shm", "-journal")
FILES = (DATABASE, SETTINGS, ENVIRONMENT, LOCK, "nas.log", *(DATABASE + suffix for suffix in COMPANIONS))
OWN = (*FILES, "trials", "retrained", "trained", "spool")
"""A driver and `nas train` write these files in a study's folder."""


def refuse_foreign(folder: Path) -> None:
    """Raises Conflict, before anything is written, when the folder holds a database or links that are not a study's.

    A link is refused wherever a driver would write, at any depth. The folder itself may be a link.
    """
    for name in OWN:
        files.refuse_links(folder, name)
    if os.path.lexists(folder / DATABASE):
        is_whole(folder / DATABASE)
    for parts in (("trials",), ("retrained",), ("trained",)):
        for entry in _entries(folder.joinpath(*parts)):
            files.refuse_links(folder, *parts, entry)


def _entries(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder)]
    except OSError:
        return []


def open_to_write(
    folder: Path, name: str, objectives: Sequence[Objective], database: Database | None = None
) -> Store | None:
    """Opens the study in this folder, or that of this name in the database. None where there is none yet, or only one
    whose creation was cut short.

    Raises Conflict, and changes nothing, where a database stands there that `nas` did not make.
    """
    if database is None:
        if not os.path.lexists(folder / DATABASE) or not is_whole(folder / DATABASE):
            return None
        store = Store.open(sqlite_url(folder))
    elif not _has_study(database, name):
        return None
    else:
        store = Store.open(database, name)
    if "settings" not in store.attributes():
        store.close()
        raise Conflict("the study has no settings", code="half-created", where=str(folder / DATABASE))
    if store.goals() == len(objectives):
        store.name_metrics(objectives)  # version 0.1 did not
    return store


def _has_study(database: Database, name: str) -> bool:
    """Tells whether the database has a study of that name. Raises OutOfReach at once."""
    database.check()
    return database.read(lambda c: study_rows.has_tables(c) and bool(study_rows.find(c, name)))


def create(
    folder: Path,
    name: str,
    objectives: Sequence[Objective],
    attributes: Mapping[str, Any],
    database: Database | None = None,
) -> Store:
    """Creates a study with these attributes: in this database, else in one of the folder's own.

    The folder's database is made beside its place and moved there when it is complete, so a killed driver leaves
    nothing that looks like a study. The caller holds the folder's lock, and `open_to_write` found no study.
    """
    if database is not None:
        return Store.create(database, name, objectives, attributes)
    path = folder / DATABASE
    with files.beside(path) as temporary:
        try:
            Store.create(file_url(temporary), name, objectives, attributes).close()
            if os.path.lexists(path):
                _take_the_place(temporary, path)
            else:
                files.create(path, temporary.replace)
        finally:
            for suffix in COMPANIONS:
                temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)
    return Store.open(sqlite_url(folder))


def _take_the_place(temporary: Path, path: Path) -> None:
    """Replaces a study whose creation was cut short. Its journal is first written back into it, and is then gone."""
    if is_whole(path):
        raise Conflict("a study exists here already", code="study-exists", where=str(path))
    Store.open(file_url(path)).close()
    temporary.replace(path)


def write_descriptions(folder: Path, settings: str, environment: Mapping[str, Any], *, anew: bool) -> None:
    """Writes the study's readable files beside its database; with `anew`, also where both exist already."""
    if anew or not (folder / SETTINGS).exists():
        files.write_text(folder / SETTINGS, settings)
    if anew or not (folder / ENVIRONMENT).exists():
        files.write_json(folder / ENVIRONMENT, environment)


def refuse_strangers(folder: Path, settings: str) -> None:
    """Raises Conflict when files that nas has not written stand in the place of the new study's files."""
    if is_our_environment(folder):
        return
    for name, own in ((SETTINGS, settings), (ENVIRONMENT, None)):
        path = folder / name
        if os.path.lexists(path) and not (own is not None and _text(path) == own):
            raise Conflict(
                "a file that nas did not write has the name of one of the study's files; it stays unchanged",
                code="not-a-study",
                where=str(path),
                help=FOREIGN,
            )


def _text(path: Path) -> str:
    try:
        return files.read_bytes(path).decode()
    except (OSError, ValueError):
        return ""
