"""Chooses where the files of a study's trials are: in its own folder, or where --folder or NAS_FOLDER says.

A study stores that place for people and for comparison alone: a stranger's study could name any folder of this user.
What proves the place is the mark in it, which no stranger's study can put into a folder of ours.
"""

import hashlib
import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas import files
from nas.errors import Conflict, NasError, OutOfReach, UsageError
from nas.folders import absolute, is_there
from nas.printable import printable
from nas.remote_files import checked_url, joined
from nas.study import checked
from nas.study.leases import Leases
from nas.study.store import Store
from nas.trial_files import RunFolder

OPTION, VARIABLE = "--folder", "NAS_FOLDER"
LOCAL = "local"
"""The value that means the study's own folder, whatever NAS_FOLDER says."""
ATTRIBUTE = "folder"


@dataclass(frozen=True)
class FolderPlace:
    """Holds the place that the user names: an absolute path or a checked URL; empty for the study's own folder.

    `source` says who named it: --folder, folder or NAS_FOLDER.
    """

    text: str
    source: str

    @property
    def chosen(self) -> bool:
        """Tells whether this very call asked for it, rather than the user's environment."""
        return self.source != VARIABLE

    def of(self, study: str) -> str:
        """Returns the place of one study in it."""
        return joined(self.text, study) if "://" in self.text else str(Path(self.text) / study)


def folder_place(folder: "str | Path | FolderPlace | None" = None, source: str = "folder") -> FolderPlace | None:
    """Returns the place that an option names, or NAS_FOLDER; None where neither does.

    Raises UsageError for a URL that cannot be one, or holds a secret.
    """
    if isinstance(folder, FolderPlace):
        return folder
    if folder is None:
        folder, source = os.environ.get(VARIABLE) or None, VARIABLE
    if folder is None:
        return None
    text = os.fspath(folder)
    if not text:
        raise UsageError(f"{source} is empty", where=source, help=f"name a folder, a URL or {LOCAL}")
    if text == LOCAL:
        return FolderPlace("", source)
    if "://" in text:
        return FolderPlace(checked_url(text, source), source)
    if "\0" in text:
        raise UsageError("a path has no zero byte", where=source, help="name a folder")
    return FolderPlace(str(absolute(Path(text))), source)


def at_first(place: FolderPlace | None, name: str, created: float) -> dict[str, Any]:
    """Returns the attribute with which a study is created that has a place, so that its drivers have the same one."""
    if place is None or not place.text:
        return {}
    return {ATTRIBUTE: {"place": place.text, "id": _id(name, {"created": created})}}


def to_run(store: Store, folder: Path, place: FolderPlace | None, leases: Leases) -> RunFolder:
    """Returns where a launch keeps the files of trials. A study without trials takes the place, and remembers it.

    Of drivers that begin a new study together, all have the place of its creation. Raises UsageError where the study
    needs a place and none is named, Conflict where another is named, and OutOfReach where it does not answer.
    """
    attributes, name, own = store.attributes(), folder.name, RunFolder(str(folder.absolute()))
    stored = stored_place(attributes)
    if place is None or not place.text:
        if stored is None:
            return own
        raise UsageError(
            f"the trials of study '{name}' keep their files elsewhere, and a stored place is not used by itself",
            code="folder-needed",
            where=place.source if place else OPTION,
            detail=f"stored {stored['place']}",
            help=_reach(name, stored["place"]),
        )
    new = {"place": place.text, "id": _id(name, attributes)}
    if not store.rows() and (stored == new or leases.settle(ATTRIBUTE, new)):
        try:
            return taken(name, new["id"], place)
        except NasError:
            leases.settle(ATTRIBUTE, None)  # so that the next launch may name another place, or none
            raise
    if stored is not None:
        return _same(name, stored, place)
    if not place.chosen:
        return own
    raise _another(name, str(folder), place, "leave --folder out")


def to_read(store: Store, folder: Path, place: FolderPlace | None) -> tuple[RunFolder | None, str]:
    """Returns where the files of trials are read. None with the reason where they cannot be reached from here."""
    stored, name = stored_place(store.attributes()), folder.name
    if stored is None:
        return RunFolder(str(folder)), ""
    if place is None or not place.text:
        return None, f"the trials keep their files in {printable(stored['place'])}: {_reach('', stored['place'])}"
    try:
        return _same(name, stored, place), ""
    except (Conflict, OutOfReach) as error:
        if place.chosen:
            raise
        return None, f"{error.message} ({VARIABLE} names {place.text})"


def _id(name: str, attributes: Mapping[str, Any]) -> str:
    """Returns the id of a study that begins: the same for all drivers that begin at this moment."""
    return hashlib.sha256(f"{name} {attributes.get('created')!r}".encode()).hexdigest()[:16]


def taken(name: str, identity: str, place: FolderPlace) -> RunFolder:
    """Marks a new place as that of the study with this id.

    Raises UsageError for a folder that is not there, Conflict for that of another study, and OutOfReach.
    """
    if "://" not in place.text:
        if not is_there(Path(place.text), folder=True):
            help = "mount it, or make it: nas makes folders in it alone"
            raise UsageError(f"there is no folder '{place.text}'", code="no-folder", where=place.source, help=help)
        files.refuse_links(Path(place.text), name)
    found = RunFolder(place.of(name), identity)
    mark = _mark(found)
    if mark is None:
        with suppress(Conflict):  # another driver was faster
            found.leave_mark(name)
        mark = _mark(found)
    if mark != identity:
        help = "choose another folder, or another --study"
        raise Conflict(f"{found.place} belongs to another study", code="folder-taken", where=place.source, help=help)
    return found


def described(found: RunFolder, place: FolderPlace) -> dict[str, str]:
    """Returns what the study stores of its place, as the attribute ATTRIBUTE."""
    return {"place": place.text, "id": found.identity}


def _same(name: str, stored: Mapping[str, str], place: FolderPlace) -> RunFolder:
    """Returns the place, once its mark has proved that it is the study's: its path may differ between machines."""
    found = RunFolder(place.of(name), stored["id"])
    if _mark(found) != stored["id"]:
        if place.text != stored["place"]:
            raise _another(name, stored["place"], place, _reach(name, stored["place"]))
        found.require()
    return found


def _mark(folder: RunFolder) -> str | None:
    """Returns the study's id that the mark holds; None where there is no mark."""
    try:
        mark = folder.mark()
    except ValueError:
        return ""
    return None if mark is None else mark.get("id", "")


def stored_place(attributes: Mapping[str, Any]) -> dict[str, str] | None:
    """Returns the stored place and the id of its mark; None for the study's own folder. Raises Conflict where they are
    damaged.
    """
    if (stored := attributes.get(ATTRIBUTE)) is None:
        return None
    if not isinstance(stored, dict) or not all(isinstance(stored.get(key), str) for key in ("place", "id")):
        checked.damaged("the study", ATTRIBUTE, stored, "a place and an id")
    return stored


def _reach(name: str, place: str) -> str:
    """Tells how to name the place, so that people see it before they do."""
    command = f"nas resume {name} " if name else ""
    return f"{command}{OPTION} {shlex.quote(printable(place))}   if you trust it; or set {VARIABLE}"


def _another(name: str, stored: str, place: FolderPlace, help: str) -> Conflict:
    return Conflict(
        f"the trials of study '{name}' keep their files elsewhere",
        code="folder-changed",
        where=place.source,
        detail=f"stored {stored}   now {place.text}",
        help=help,
    )
