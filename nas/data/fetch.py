"""Finds the files of known data sets, and downloads those that are missing.

A data set is looked for in NAS_DATA_DIR, then in the user's cache. Otherwise it is downloaded, normalised, checked and
kept in the cache. An interrupted download continues at the next try.
"""

import gzip
import hashlib
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from nas import bounds, files
from nas.data.catalogue import Dataset
from nas.data.normalise import pack
from nas.errors import DataError, OutOfReach, nearest
from nas.folders import is_there
from nas.surroundings import logger_level

CHUNK, PIECE = 1 << 16, 1 << 20
"""Bytes that are downloaded, and read, at once."""
NEIGHBOURS = 1000
"""The most files of a folder with which a misspelt name is compared."""
RATIO, UNPACKED = 100, 1 << 26
"""A gzip file may unpack to RATIO times its size or to UNPACKED bytes, whichever is more."""
TIMEOUT_SECONDS = 30.0

Progress = Callable[[str, int, int | None], None]
"""Called with the file, the bytes of it that are here, and its size, or None where the server does not say."""


def silent(file: str, here: int, size: int | None) -> None:
    pass


def cache() -> Path:
    """Returns the folder of the cache: NAS_CACHE, or the user's own."""
    if folder := os.environ.get("NAS_CACHE"):
        return Path(folder)
    import pooch  # it imports requests, so only callers that need the default pay for it

    return Path(pooch.os_cache("nas"))


def present(dataset: Dataset) -> Path | None:
    """Returns the file's path, or None where there is none. The file is not read, so it is not checked."""
    folder = os.environ.get("NAS_DATA_DIR")
    places = [Path(folder) / dataset.file] if folder else []
    return next((path for path in (*places, cache() / dataset.file) if is_there(path)), None)


def content(dataset: Dataset) -> bytes:
    """Returns the normalised content, downloaded first if it is missing.

    Raises DataError, and OutOfReach when the disk cannot be written.
    """
    path = present(dataset) or fetch(dataset)
    again = "delete the file, and it is downloaded again; or name your own file by its path"
    unpacked = read(path, help=again)
    found = hashlib.sha256(unpacked).hexdigest()
    if found != dataset.sha256:
        raise DataError(
            f"{dataset.name} is not the published data",
            code="corpus-checksum",
            where=str(path),
            detail=f"sha256 {found}\nexpected {dataset.sha256}",
            help=again,
        )
    return unpacked


def fetch(dataset: Dataset, progress: Progress = silent) -> Path:
    """Downloads into the cache, unless another process already has.

    Raises DataError when the download fails or is not the published data, and OutOfReach when the disk cannot be
    written.
    """
    path, raw = cache() / dataset.file, cache() / "raw" / dataset.name
    try:
        raw.mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache() / f"{dataset.name}.lock")
        lock.acquire()
    except OSError as error:
        raise OutOfReach(
            "the cache cannot be written",
            code="cache",
            where=str(cache()),
            detail=error.strerror or str(error),
            help="set NAS_CACHE to a folder that you may write to",
        ) from error
    try:
        if not path.is_file():
            normalised = _normalised(dataset, [_download(dataset, url, raw, progress) for url in dataset.urls])
            if hashlib.sha256(normalised).hexdigest() != dataset.sha256:
                shutil.rmtree(raw, ignore_errors=True)
                raise _changed(dataset)
            files.replace(path, lambda beside: beside.write_bytes(pack(normalised)))
            shutil.rmtree(raw, ignore_errors=True)
    finally:
        lock.release()
    return path


def path_of(corpus: str) -> Path:
    """Returns the path that a study names, with ~ expanded. Raises DataError for the folder of an unknown user."""
    try:
        return Path(corpus).expanduser()
    except RuntimeError as error:
        raise DataError(
            f"'{corpus}' names no folder",
            code="corpus-missing",
            where="task.corpus",
            detail=str(error),
            help="~ is your own folder, and ~name that of a user",
        ) from None


def read(path: Path, help: str = "compress the text again with gzip, or give it plain") -> bytes:
    """Returns the bytes that `parts_of` yields."""
    return b"".join(parts_of(path, help))


def parts_of(path: Path, help: str = "compress the table again with gzip, or give it plain") -> Iterator[bytes]:
    """Yields the bytes of a file, unpacked when its name ends in .gz. Raises DataError, or FileNotFoundError.

    A gzip file of 1 MiB can stand for 1 GiB of zeros, and no text shrinks to a hundredth of its size: what unpacks to
    more is refused. `help` says what to do where it cannot be unpacked.
    """
    try:
        with files.opened(path) as (file, size):
            if size > bounds.TABLE_BYTES:
                raise ValueError(f"it is larger than {bounds.TABLE_BYTES:,} bytes")
            if path.suffix != ".gz":
                yield from bounded(file, size, cut=True)
                return
            with gzip.GzipFile(fileobj=file) as plain:
                yield from bounded(plain, min(max(UNPACKED, RATIO * size), bounds.TABLE_BYTES))
    except FileNotFoundError:
        raise
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise incomplete(path, "gzip", str(error), help) from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def bounded(file: IO[bytes] | gzip.GzipFile, most: int, piece: int = PIECE, cut: bool = False) -> Iterator[bytes]:
    """Yields what is in an open file. Raises ValueError when there are more bytes than `most`; with `cut`, leaves out
    what is behind them."""
    size = 0
    while part := file.read(min(piece, most - size) if cut else piece):
        size += len(part)
        if size > most:
            raise ValueError(f"it unpacks to more than {most:,} bytes")
        yield part


def incomplete(path: Path, kind: str, detail: str, help: str) -> DataError:
    """Returns the error of a packed file that cannot be unpacked."""
    text = f"not a complete {kind} file"
    return DataError(text, code="corpus-not-text", where=str(path), detail=detail, help=help)


def unreadable(path: Path, error: Exception) -> DataError:
    """Returns the error of a corpus that the system does not let us read."""
    return DataError(
        "the corpus cannot be read",
        code="corpus-unreadable",
        where=repr(str(path)) if "\0" in str(path) else str(path),
        detail=getattr(error, "strerror", None) or str(error),
        help="give the path of a file that you may read",
    )


def missing(path: Path, known: Iterable[str]) -> DataError:
    """Returns the error of a corpus that is not there. It proposes near names, also among `known` data sets."""
    others = islice(path.parent.glob("*"), NEIGHBOURS) if is_there(path.parent, folder=True) else ()
    beside = get_close_matches(str(path), [str(file) for file in others if is_there(file)], n=3)
    return DataError(
        f"no data set or file '{path}'",
        code="corpus-missing",
        where="task.corpus",
        help=nearest(str(path), [*known, *beside]) + "; or the path of a file",
    )


def _download(dataset: Dataset, url: str, folder: Path, progress: Progress) -> Path:
    import pooch
    import requests

    name = url.rsplit("/", 1)[1]
    taking = _Resuming(folder / f"{name}.part", progress)
    try:
        with logger_level("pooch", logging.WARNING):
            return Path(pooch.retrieve(url, None, name, folder, downloader=taking))
    except (requests.RequestException, ConnectionError) as error:
        raise DataError(
            f"{dataset.name} is not on this machine and cannot be downloaded",
            code="corpus-unreachable",
            where=url,
            detail=str(error),
            help="connect to the network (a downloaded part is kept); or set NAS_DATA_DIR to a folder that holds\n"
            f"{dataset.file}; corpus = 'python-docs' needs neither",
        ) from error
    except OSError as error:
        raise OutOfReach(
            f"{dataset.name} cannot be stored",
            code="disk",
            where=str(folder),
            detail=error.strerror or str(error),
            help="free some space, or set NAS_CACHE to another folder",
        ) from error


class _Resuming:
    """Downloads for pooch. The part received so far stays in `part` when the connection breaks."""

    def __init__(self, part: Path, progress: Progress) -> None:
        self.part, self.progress = part, progress

    def __call__(self, url: str, output: str, pooch: Any) -> None:
        import requests

        here = self.part.stat().st_size if self.part.exists() else 0
        # Without compression on the way, so that the server counts the bytes as the disk does.
        wanted = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={here}-"} if here else {})
        with requests.get(url, headers=wanted, stream=True, timeout=TIMEOUT_SECONDS) as reply:
            if here and reply.status_code == requests.codes.requested_range_not_satisfiable:
                self.part.unlink()  # as long as the file, or longer: it cannot be continued
                return self(url, output, pooch)
            reply.raise_for_status()
            goes_on = reply.status_code == requests.codes.partial_content
            here = here if goes_on else 0
            length = reply.headers.get("Content-Length")
            size = here + int(length) if length else None
            with self.part.open("ab" if goes_on else "wb") as out:
                for chunk in reply.iter_content(CHUNK):
                    out.write(chunk)
                    here += len(chunk)
                    self.progress(self.part.stem, here, size)
        if size is not None and here < size:
            raise requests.ConnectionError(f"the connection ended after {here:,} of {size:,} bytes")
        self.part.replace(output)


def _normalised(dataset: Dataset, downloaded: list[Path]) -> bytes:
    """Normalises the downloads. Raises DataError when that fails, since then the publisher's file has changed."""
    try:
        return dataset.normalise(downloaded)
    except Exception as error:  # a changed file fails in ways that nobody can list
        shutil.rmtree(downloaded[0].parent, ignore_errors=True)
        raise _changed(dataset) from error


def _changed(dataset: Dataset) -> DataError:
    return DataError(
        f"the downloaded {dataset.name} is not the published data",
        code="corpus-checksum",
        where=dataset.urls[0],
        detail=f"expected sha256 {dataset.sha256} of the normalised file",
        help="try again; if that does not help, the publisher has changed it: set NAS_DATA_DIR to a folder that\n"
        f"holds {dataset.file}",
    )
