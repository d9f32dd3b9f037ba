"""A report's folder, replaced whole: built beside the old one, then exchanged by renaming."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from nas.errors import Conflict, OutOfReach

SUFFIXES = {".html", ".csv", ".parquet", ".json", ".svg", ".png"}


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `folder` when the block ends, and vanishes when the block raises.

    Raises Conflict when `folder` holds anything that no report writes, and OutOfReach when the disk refuses.
    """
    target = folder.resolve()
    try:
        _refuse_foreign(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent, ignore_cleanup_errors=True) as temporary:
            # A folder within, because the temporary one is readable by its owner alone.
            fresh = Path(temporary) / "new"
            fresh.mkdir()
            yield fresh
            _exchange(fresh, target, Path(temporary) / "old")
    except OSError as error:
        reason = error.strerror or str(error)
        help = "choose a folder that may be written, on a disk with room"
        raise OutOfReach(f"cannot be written: {reason}", code="disk", where=str(folder), help=help) from error


def report_folder(study: str) -> Path:
    """`reports/STUDY` under the current folder, unless NAS_REPORTS names another than `reports`."""
    return Path(os.environ.get("NAS_REPORTS", "reports")) / study


def _exchange(fresh: Path, target: Path, old: Path) -> None:
    if target.exists():
        target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def _refuse_foreign(target: Path) -> None:
    """The old folder is deleted, so it must not hold what somebody else put there."""
    if not target.exists():
        return
    if not target.is_dir():
        raise _conflict(target, "a file stands where the report's folder belongs")
    names = sorted(path.name for path in target.iterdir())
    foreign = [name for name in names if (target / name).is_dir() or Path(name).suffix not in SUFFIXES]
    if names and "index.html" not in names:
        foreign = names
    if foreign:
        text = "the folder holds something else than a report, and a report replaces its folder"
        raise _conflict(target, text, f"found: {', '.join(foreign[:5])}")


def _conflict(target: Path, message: str, detail: str = "") -> Conflict:
    help = "give the report a folder of its own"
    return Conflict(message, code="not-a-report", where=str(target), detail=detail, help=help)
