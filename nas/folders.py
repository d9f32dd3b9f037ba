"""Refuses folders in which a command cannot work: a current folder that is gone, and folders closed to this user.

Torch ends every process that loads it in a current folder that is gone, so `require_current_folder` comes first.
"""

import os
from pathlib import Path

from nas.errors import OutOfReach


def require_current_folder() -> None:
    """Raises OutOfReach where the current folder was deleted."""
    try:
        Path.cwd()
    except OSError as error:
        raise _gone("") from error


def absolute(path: Path) -> Path:
    """Returns the absolute path. Raises OutOfReach where the path is relative and the current folder is gone."""
    try:
        return path.absolute()
    except OSError as error:
        raise _gone(os.fspath(path)) from error


def names_in(folder: Path) -> list[str]:
    """Returns the sorted names in a folder, and none where there is no such folder.

    Raises OutOfReach where this user may not read or enter it.
    """
    refuse_closed(folder)
    try:
        found = sorted(folder.iterdir())
    except PermissionError as error:
        raise closed(folder) from error
    except (OSError, ValueError):
        return []
    for path in found[:1]:
        refuse_closed(path)  # a folder whose names can be read may still be closed
    return [path.name for path in found]


def refuse_closed(path: Path) -> None:
    """Raises OutOfReach where this user may not enter a folder on the way to the path."""
    absolute(path)
    try:
        path.lstat()
    except PermissionError as error:
        raise closed(path) from error
    except (OSError, ValueError):  # absent, or a name that nothing can have
        pass


def is_there(path: Path, folder: bool = False) -> bool:
    """Tells whether a file, or a folder, stands there, as far as this user may look."""
    try:
        return path.is_dir() if folder else path.is_file()
    except (OSError, ValueError):
        return False


def closed(path: Path | str) -> OutOfReach:
    """Returns the error that tells a file or folder which this user may not use."""
    text = "permission denied: this user may not enter, read or write it"
    return OutOfReach(text, code="folder", where=os.fspath(path), help="ask its owner, or choose another folder")


def _gone(where: str) -> OutOfReach:
    text = "the current folder is gone, or may not be entered"
    return OutOfReach(text, code="folder", where=where, help="change to another folder")
