"""Reads and writes the files of trials at a URL that pyarrow.fs knows: S3, Google Cloud, Azure, HDFS, or `file://`.

Credentials come from the environment or from the provider's own files. An address that holds one is refused, since it
would be stored and shown.
"""

import os
import shutil
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache, cached_property, partial
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from nas import bounds, files, temporary_folders
from nas.errors import OutOfReach, UsageError, nearest

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

T = TypeVar("T")

SETTINGS = {
    "s3": ("region", "scheme", "endpoint_override", "force_virtual_addressing", "allow_delayed_open"),
    "gs": ("scheme", "endpoint_override", "retry_limit_seconds", "project_id"),
    "abfs": ("blob_storage_authority", "dfs_storage_authority", "enable_tls"),
    "abfss": ("blob_storage_authority", "dfs_storage_authority", "enable_tls"),
    "hdfs": ("replication", "user"),
    "viewfs": ("replication", "user"),
    "file": (),
}
"""The schemes, and what may stand behind `?`. None of these is a secret."""
NAMED = ("abfs", "abfss", "gs")
"""Schemes in which a name may stand before `@`: a container's, or anonymous."""
OBJECT_STORES = ("s3", "gcs", "abfs")
"""File systems of pyarrow in which folders need not be made."""
PAUSES = (0.2, 1.0, 4.0)
"""Seconds between attempts while the place does not answer."""
PIECE = 2**20


def checked_url(text: str, source: str) -> str:
    """Returns the URL without a slash at its end. Raises UsageError for one that cannot be used, or holds a secret.

    `source` names the option in errors. No error shows what may be a secret.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _refused("this is no URL", source, "give SCHEME://HOST/PATH") from None
    if len(text) > bounds.PATH or not text.isprintable() or " " in text:
        raise _refused(f"a URL has at most {bounds.PATH:,} characters, and no space", source, "write others as %XX")
    if parts.scheme not in SETTINGS:
        help = f"{nearest(parts.scheme, SETTINGS)}; a path of a shared folder has no scheme"
        raise _refused(f"pyarrow.fs has no file system '{parts.scheme}'", source, help)
    if parts.password is not None or (parts.username and parts.scheme not in NAMED) or parts.fragment:
        raise _refused("a URL holds no user, password or fragment: it would be stored and shown", source, CREDENTIALS)
    known = SETTINGS[parts.scheme]
    for key, _ in parse_qsl(parts.query, keep_blank_values=True):
        if key not in known:
            said = f"{nearest(key, known)}\n" if known else ""
            raise _refused(f"a URL of {parts.scheme} has no parameter '{key:.40}' here", source, said + CREDENTIALS)
    if parts.scheme == "file" and (host or port):
        raise _refused("a file:// URL names no host", source, "give file:///PATH")
    if parts.scheme in ("s3", "gs") and not host:
        raise _refused("the URL names no bucket", source, f"give {parts.scheme}://BUCKET/PATH")
    return urlunsplit(parts._replace(path=parts.path.rstrip("/")))


CREDENTIALS = (
    "leave credentials to the environment (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS ...) "
    "or the provider's own files"
)


def joined(url: str, *names: str) -> str:
    """Returns the URL of a folder or file below that of a folder."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path="/".join((parts.path, *names))))


def read(url: str, name: str, most_bytes: int) -> bytes | None:
    """Reads a small file as a whole; None where there is none. Raises OutOfReach, and ValueError for a larger one."""
    system, base = _opened(url)
    path = f"{base}/{name}"
    try:
        with _told(joined(url, name)):
            return again(lambda: b"".join(_pieces(system, path, most_bytes)))
    except FileNotFoundError:
        return None


def folders(url: str, name: str) -> list[str]:
    """Returns the names of the folders in a folder; none where there is no such folder. Raises OutOfReach."""
    system, base = _opened(url)
    with _told(joined(url, name)):
        found = again(lambda: _listed(system, f"{base}/{name}", recursive=False))
    return [info.base_name for info in found if not info.is_file]


def write(url: str, name: str, content: bytes) -> None:
    """Writes a small file, whole or not at all. Raises OutOfReach."""
    system, base = _opened(url)

    def fill(out: Any) -> None:
        out.write(content)

    with _told(joined(url, name), writing=True):
        again(lambda: _replace(system, base, name, fill))


def delete(url: str, name: str) -> None:
    """Deletes a file, if it is there. Raises OutOfReach."""
    system, base = _opened(url)
    with _told(joined(url, name)):
        again(lambda: _delete(system, f"{base}/{name}"))


def again(call: Callable[[], T]) -> T:
    """Calls until the place answers, a few times."""
    for pause in PAUSES:
        try:
            return call()
        except (FileNotFoundError, PermissionError):
            raise
        except (OSError, OutOfReach):
            time.sleep(pause)
    return call()


class RemoteFiles:
    """Works on a copy of a trial's files in a temporary folder of this machine, which goes when this object does."""

    def __init__(self, url: str, kind: str, name: str) -> None:
        self.url = url
        self.place = joined(url, kind, name)
        self._system, base = _opened(url)
        self._base = f"{base}/{kind}/{name}"
        if self._system.type_name == "local":
            files.refuse_links(Path(base), kind, name)

    @cached_property
    def path(self) -> Path:
        path = temporary_folders.make("nas-trial-")
        weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)
        return path

    def require(self) -> None:
        """Does nothing: a place that is gone answers no write."""

    def names(self) -> list[str]:
        """Returns the sorted names of the files there. Raises OutOfReach."""
        with _told(self.place):
            found = again(lambda: _listed(self._system, self._base, recursive=True))
        kept = [info.path[len(self._base) + 1 :] for info in found if info.is_file]
        return sorted(name for name in kept if is_within(name))[: bounds.FILES]

    def fetch(self, name: str, most_bytes: int) -> Path:
        """Copies a file to this machine. Raises FileNotFoundError, ValueError, OutOfReach."""
        path = self.path / name
        source = f"{self._base}/{name}"
        if self._system.type_name == "local" and Path(source).is_symlink():
            raise ValueError(f"{joined(self.place, name)} is a link")

        def copy() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as out:
                out.writelines(_pieces(self._system, source, most_bytes))

        with _told(joined(self.place, name)):
            again(copy)
        return path

    def publish(self, name: str) -> None:
        with (self.path / name).open("rb") as source, _told(joined(self.place, name), writing=True):

            def fill(out: Any) -> None:
                source.seek(0)
                shutil.copyfileobj(source, out, PIECE)

            again(lambda: _replace(self._system, self._base, name, fill))

    def delete(self, names: Collection[str]) -> None:
        own = [name for name in self.names() if name in names or files.is_leftover(name, names)]
        with _told(self.place):
            for name in own:
                again(partial(_delete, self._system, f"{self._base}/{name}"))
        for name in names if "path" in self.__dict__ else ():
            (self.path / name).unlink(missing_ok=True)

    def delete_all(self) -> None:
        with _told(self.place):
            again(lambda: _delete_folder(self._system, self._base))


def refuse_larger(place: str, size: int, most_bytes: int) -> None:
    """Raises ValueError where a file is larger than it can be."""
    if size > most_bytes:
        raise ValueError(f"{place} has more than {most_bytes:,} bytes, which is the most that such a file can have")


def is_within(name: str) -> bool:
    """Tells whether a name from elsewhere stays in its folder."""
    return bool(name) and len(name) <= bounds.PATH and ".." not in name.split("/") and not name.startswith("/")


@cache
def _opened(url: str) -> "tuple[FileSystem, str]":
    """Opens the file system once in each process. Returns it with the path of the folder in it."""
    try:
        from pyarrow.fs import FileSystem

        with _told(url):
            system, base = again(lambda: FileSystem.from_uri(url))
    except (ImportError, ValueError, NotImplementedError) as error:
        raise OutOfReach("pyarrow.fs cannot open the folder", code="folder", where=url, detail=str(error)) from error
    return system, base.rstrip("/")


def _listed(system: "FileSystem", folder: str, *, recursive: bool) -> list[Any]:
    from pyarrow.fs import FileSelector

    return list(system.get_file_info(FileSelector(folder, allow_not_found=True, recursive=recursive)))


def _pieces(system: "FileSystem", path: str, most_bytes: int) -> Iterator[bytes]:
    size = 0
    with system.open_input_stream(path) as source:
        while piece := source.read(PIECE):
            size += len(piece)
            refuse_larger(path, size, most_bytes)
            yield piece


def _replace(system: "FileSystem", base: str, name: str, fill: Callable[[Any], object]) -> None:
    """Writes a new file beside the place, then moves it there. What was not finished is deleted."""
    folder, _, last = f"{base}/{name}".rpartition("/")
    temporary = f"{folder}/.{last[:50]}.{os.getpid()}.{token_hex(4)}{files.TEMPORARY}"
    if system.type_name not in OBJECT_STORES:
        system.create_dir(folder, recursive=True)
    try:
        with system.open_output_stream(temporary) as out:
            fill(out)
        system.move(temporary, f"{folder}/{last}")
    except BaseException:
        with suppress(OSError):
            _delete(system, temporary)
        raise


def _delete(system: "FileSystem", path: str) -> None:
    with suppress(FileNotFoundError):
        system.delete_file(path)


def _delete_folder(system: "FileSystem", path: str) -> None:
    with suppress(FileNotFoundError):
        system.delete_dir(path)


@contextmanager
def _told(place: str, writing: bool = False) -> Iterator[None]:
    """Raises OutOfReach where the place does not answer. A file that is absent may be an answer, except to a writer."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not writing:
            raise
        raise OutOfReach(
            "the folder of the study's trials cannot be reached",
            code="folder",
            where=place,
            detail=str(error)[:1_000],
            help="see that it answers, and that your credentials may read, write and delete there; then: nas resume",
        ) from error


def _refused(message: str, source: str, help: str) -> UsageError:
    return UsageError(message, code="folder", where=source, help=help)
