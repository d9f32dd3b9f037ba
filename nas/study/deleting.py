"""Deletes a stored study: its rows in the database, and what nas wrote into its folder.

Anything else in the folder stays, and so does the folder then.
"""

import os
import re
from pathlib import Path

import optuna

from nas import files
from nas.errors import Conflict
from nas.study import creation, spool
from nas.study.database import DATABASE
from nas.study.database_place import DatabasePlace
from nas.study.lock import driver_lock
from nas.study.spool import Spool
from nas.study.store import quietly
from nas.study.stored_study import StoredStudy
from nas.study.study_drivers import is_running
from nas.study.transactions import Database
from nas.trial_files import RunFolder, written_as

FOLDERS = ("trials", "retrained", "trained")
OF_BODIES = ("trials", "retrained")
MARKS = ("stop", "stop-now")
"""Requests to stop are empty files of these names."""
OF_A_MODEL = re.compile(
    r"(model|checkpoint|rung[\w.-]*)\.safetensors|(architecture|vocabulary|metrics|attention_maps)\.json|nas\.log"
)
"""The names of files that searches and trainings write into the folders of models."""


def delete(study: StoredStudy) -> list[Path]:
    """Deletes the study, and returns what was left in its folder since nas did not write it.

    What its trials keep elsewhere goes too, where this user names that place; see `StoredStudy.files_elsewhere`.

    Raises Conflict while a driver searches it or where a link stands in the folder, and OutOfReach.
    """
    whole = study.file.trial is not None  # a body of the user's own wrote what it wanted, for its trial alone
    if is_running(study):
        text = f"study '{study.name}' is being searched"
        raise Conflict(text, code="locked", help=f"nas stop {study.in_commands} --now   ends the search")
    elsewhere = None if study.files_elsewhere else study.run_folder
    left = _delete_here(study, whole)
    if elsewhere and elsewhere.identity:
        delete_elsewhere(elsewhere, whole)
    return left


def _delete_here(study: StoredStudy, whole: bool) -> list[Path]:
    """Deletes rows and the study's own folder; the rows go first."""
    if study.place is not None:
        _delete_rows(study.place, study.name)
        study.store.close()
        return [] if study.missing_files else _delete_files(study.folder, whole)
    creation.refuse_foreign(study.folder)
    study.store.close()
    with driver_lock(study.folder, alone=True):
        return _delete_files(study.folder, whole)


def _delete_rows(place: DatabasePlace, name: str) -> None:
    """Deletes the study's rows; those of the side tables go with them."""
    database = Database(place)
    try:
        storage = database.optuna_storage()
        try:
            with quietly():
                optuna.delete_study(study_name=name, storage=storage)
        finally:
            storage.remove_session()
            storage.engine.dispose()
    finally:
        database.close()


def delete_elsewhere(kept: RunFolder, whole: bool) -> None:
    """Deletes what trials keep in a shared folder or at a URL: the mark in it comes last, as it proves whose it is."""
    for found in (*map(kept.trial, kept.numbers()), *map(kept.retraining, kept.retrainings())):
        if whole:
            found.delete_all()
        else:
            found.delete([name for name in map(written_as, found.names()) if OF_A_MODEL.fullmatch(name)])
    kept.drop_mark()


def _delete_files(folder: Path, whole: bool) -> list[Path]:
    """Deletes what nas wrote, and each folder where nothing else is in it. The database goes first."""
    own = [name for name in creation.OWN if name not in (*FOLDERS, spool.FOLDER)]
    for name in FOLDERS:
        files.refuse_links(folder, name)
    (folder / DATABASE).unlink(missing_ok=True)
    for name in FOLDERS:
        for inner in sorted((folder / name).iterdir()) if (folder / name).is_dir() else ():
            if whole and name in OF_BODIES:
                files.delete_folder(inner)
            elif inner.is_dir():
                files.delete_own(inner, [path.name for path in inner.iterdir() if OF_A_MODEL.fullmatch(path.name)])
        files.delete_own(folder / name, ())
    kept = Spool(folder, "", 0)
    files.delete_own(kept.folder, [path.name for path in kept.kept()])
    for mark in MARKS:
        files.drop_mark(folder / mark)
    files.delete_own(folder, own)
    return sorted(folder.iterdir()) if os.path.lexists(folder) else []
