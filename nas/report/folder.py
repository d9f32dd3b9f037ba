"""Replaces a report's folder as a whole: the new one is built beside the old one, then exchanged by renaming."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from nas.errors import Conflict, OutOfReach
from nas.folders import absolute

PAGE = "index.html"
MARK = '<meta name="generator" content="nas">'
"""By this mark the page, and with it the folder, is recognised as ours."""
OLD_MARKS = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
    " · architecture search</title>",
)
HEAD_BYTES = 4096
OWN = re.compile(
    r"index\.html|front\.json|search\.json|trials\.(csv|parquet)"
    r"|(learning_curves|(pareto|hypervolume|importance)_[^/]*)\.(svg|png)",
    re.DOTALL,
)
"""A report may consist of these files. Their names alone do not make a folder a report."""


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yields an empty folder that replaces `folder` when the block ends, and is deleted when the block raises.

    Raises Conflict when `folder` holds anything that no report writes, and OutOfReach when the disk refuses the files.
    """
    target = absolute(folder).resolve()
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
    """Returns `reports/STUDY` in the current folder; NAS_REPORTS may name another folder than `reports`."""
    return Path(os.environ.get("NAS_REPORTS", "reports")) / study


def _exchange(fresh: Path, target: Path, old: Path) -> None:
    if target.exists():
        _refuse_foreign(target)  # once more: drawing took its time
        target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def _refuse_foreign(target: Path) -> None:
    """Raises Conflict unless the old folder, which is deleted, is a report of ours without any file of the user's."""
    if not target.exists():
        return
    if not target.is_dir():
        raise _conflict(target, "a file stands where the report's folder belongs")
    names = sorted(path.name for path in target.iterdir())
    foreign = [name for name in names if not OWN.fullmatch(name) or not stat.S_ISREG((target / name).lstat().st_mode)]
    if names and not foreign and not _is_marked(target / PAGE):
        foreign = names
    if foreign:
        text = "the folder holds something other than a report, and a report replaces its folder"
        raise _conflict(target, text, f"found: {', '.join(foreign[:5])}")


def _is_marked(page: Path) -> bool:
    """Tells whether `nas` made the page.

    The page says so; that of version 0.1 is recognised by its policy and its title together.
    """
    try:
        with page.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    return MARK.encode() in head or all(part.encode() in head for part in OLD_MARKS)


def _conflict(target: Path, message: str, detail: str = "") -> Conflict:
    help = "give the report a folder of its own"
    return Conflict(message, code="not-a-report", where=str(target), detail=detail, help=help)
