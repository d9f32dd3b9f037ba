"""Writes files whole or not at all, deletes only what `nas` wrote, and follows no link out of a study.

Every file that this package writes, replaces or deletes goes through here.
"""

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

from nas.errors import Conflict, OutOfReach
from nas.folders import absolute

TEMPORARY = ".tmp"
"""The ending of an unfinished file; its name is .NAME.PROCESS.NONCE.tmp."""
MOST_BYTES = 256 * 2**20
"""A JSON or text file of ours is never larger."""
MOST_DEPTH = 64
"""Lists within lists, at most, in a JSON file of ours."""
MOST_DIGITS = 1_000
"""Digits of a whole number in it."""


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Reads an ordinary file as a whole. Raises OSError, and ValueError when it is larger, or no ordinary file.

    It never waits: a pipe or a device of that name is refused. A file that the kernel makes while it is read (/proc)
    reports no size, and counts as empty.
    """
    with opened(path) as (file, size):
        if size > most:
            raise ValueError(f"it is larger than {most:,} bytes")
        return file.read(size)


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Opens an ordinary file to read, with its size. Raises OSError, and ValueError when it is not an ordinary file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is not an ordinary file")
        yield file, found.st_size


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a new file beside the place, then moves it there, so that a reader finds the old file or the new one.

    Folders are made as needed. An existing link is replaced, and its target stays as it is. Raises OutOfReach when the
    disk refuses the file.
    """
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside(path) as temporary:
            _write(temporary, write)
            temporary.replace(path)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Makes a new empty file of our own in the same folder, and deletes what still has that name afterwards."""
    temporary = path.with_name(f".{path.name[:50]}.{os.getpid()}.{token_hex(4)}{TEMPORARY}")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    try:
        yield temporary
    finally:
        with suppress(OSError):  # it was moved to its place already
            temporary.unlink()


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Makes a new empty folder in the same folder, and deletes what still has its name afterwards.

    Raises OutOfReach when the disk refuses.
    """
    temporary = path.with_name(f".{path.name[:50]}.{os.getpid()}.{token_hex(4)}{TEMPORARY}")
    with _told(temporary):
        temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        delete_folder(temporary)


def copy_folder(source: Path, target: Path) -> None:
    """Copies the ordinary files of a folder and of folders in it. Links and unfinished files are left out.

    Raises OutOfReach when the disk refuses.
    """
    with _told(target):
        for path in sorted(source.iterdir()) if source.is_dir() and not source.is_symlink() else ():
            if path.is_symlink() or path.name.endswith(TEMPORARY):
                continue
            if path.is_dir():
                copy_folder(path, target / path.name)
            elif path.is_file():
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target / path.name)


def _write(temporary: Path, write: Callable[[Path], object]) -> None:
    """Fills the file, and keeps its mode: safetensors makes new files that only their owner may read."""
    mode = stat.S_IMODE(temporary.stat().st_mode)
    write(temporary)
    temporary.chmod(mode)


def write_text(path: Path, text: str) -> None:
    replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def check_writable(folder: Path) -> None:
    """Makes the folder, and tries to write a file in it. Raises OutOfReach when the disk cannot be written."""
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with beside(folder / "probe"):
            pass


def create(path: Path, write: Callable[[Path], object], help: str = "choose another name") -> None:
    """Writes a whole file that must not exist yet. Raises Conflict when anything stands there."""
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside(path) as temporary:
            _write(temporary, write)
            try:
                os.link(temporary, path)
            except FileExistsError:
                raise Conflict(f"'{path}' exists", code="file-exists", help=help) from None
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                    raise
                if os.path.lexists(path):  # without hard links, another writer of the same name may come in between
                    raise Conflict(f"'{path}' exists", code="file-exists", help=help) from None
                temporary.rename(path)


def append_text(path: Path, text: str) -> None:
    """Adds to a file, which is made if there is none. Raises OSError, also where a link stands."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def refuse_links(folder: Path, *parts: str) -> Path:
    """Returns folder/part/part..., of which no part may be a symbolic link; the folder itself may be one.

    Raises Conflict, since following such a link would write or delete outside the study.
    """
    path = folder
    for part in parts:
        path = path / part
        if is_link(path):
            raise Conflict(
                "a study's folder holds a symbolic link, and nas follows no link out of it",
                code="linked",
                where=str(path),
                help="replace the link by its target, or delete it; the target stays unchanged",
            )
    return path


def is_link(path: Path) -> bool:
    """Tells whether a symbolic link stands there that this user may see."""
    try:
        return path.is_symlink()
    except OSError:
        return False


def delete_own(folder: Path, names: Collection[str]) -> None:
    """Deletes the files of these names and their unfinished copies, then the folder, if it is empty.

    It follows no links and touches no other files. A folder that is a link is left alone.
    """
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in list(folder.iterdir()):
        own = path.name in names or is_leftover(path.name, names)
        if own and stat.S_ISREG(path.lstat().st_mode):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # something else is in it
        folder.rmdir()


def delete_folder(folder: Path) -> None:
    """Deletes a folder with its content. Links in it are deleted, not what they lead to; a link itself is left alone.

    Raises OutOfReach when the disk refuses.
    """
    with _told(folder):
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)


def is_leftover(name: str, names: Collection[str]) -> bool:
    """Tells whether a file of this name was being written, as one of `names`, when its process was killed."""
    return name.endswith(TEMPORARY) and any(name.startswith(f".{own}.") for own in names)


def leave_mark(path: Path) -> None:
    """Makes an empty file, if nothing has that name yet. Raises OSError."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))


def is_mark(path: Path) -> bool:
    """Tells whether an empty file, and no link, stands there."""
    try:
        found = path.lstat()
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == 0


def drop_mark(path: Path) -> None:
    """Deletes an empty file of that name; anything else of that name stays."""
    if is_mark(path):
        path.unlink(missing_ok=True)


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Returns the content of a JSON file. Raises OSError, and ValueError with the reason when it is not sound JSON."""
    return parse_json(read_bytes(path, most).decode("utf-8"))


def parse_json(text: str) -> Any:
    """Returns the content of a JSON text. Raises ValueError, also where lists are nested too deeply."""
    try:
        value = DECODER.decode(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {MOST_DEPTH} deep") from None
    if text.count("[") + text.count("{") > MOST_DEPTH and _deeper(value, MOST_DEPTH):
        raise ValueError(f"it is nested more than {MOST_DEPTH} deep")
    return value


def _whole(digits: str) -> int:
    """Reads a whole number. Raises ValueError for one with more digits than any sensible number has."""
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"it holds a whole number of {len(digits):,} digits")
    return int(digits)


DECODER = json.JSONDecoder(parse_int=_whole)
"""`json.loads` would make one for each text."""


def _deeper(value: Any, most: int) -> bool:
    """Tells whether lists and objects are nested more than so many times."""
    level = [value]
    for _ in range(most):
        level = [
            part
            for whole in level
            if isinstance(whole, dict | list)
            for part in (whole.values() if isinstance(whole, dict) else whole)
            if isinstance(part, dict | list)
        ]
        if not level:
            return False
    return True


@contextmanager
def _told(path: Path) -> Iterator[None]:
    absolute(path)  # tells a current folder that is gone
    try:
        yield
    except OSError as error:
        raise OutOfReach(
            "the file cannot be written",
            code="disk",
            where=str(path),
            detail=str(error),
            help="free some space, or choose a folder that you may write to",
        ) from error
