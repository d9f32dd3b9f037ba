"""Writes the log of a study: `nas.log` in its folder, for tracebacks and warnings that a display has no room for."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from nas.printable import escaped


@contextmanager
def keep_log(folder: Path) -> Iterator[None]:
    """Logs to the folder while the block runs.

    The file appears with its first line; the logger is restored afterwards.
    """
    log, handler = logging.getLogger("nas"), _Late(folder / "nas.log")
    level = log.level
    log.setLevel(min(level or logging.INFO, logging.INFO))
    handler.setFormatter(LogFormatter())
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
        log.setLevel(level)


class LogFormatter(logging.Formatter):
    """Escapes control characters, so that a terminal that shows the log does not obey quoted text."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return escaped(super().format(record))


class _Late(logging.FileHandler):
    """Opens its file with the first record. The search continues when the disk refuses the file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)

    def _open(self) -> TextIOWrapper:
        """Opens the log. A link of that name is never followed, as it may lead anywhere."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(self.baseFilename, flags, 0o666), "a", encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)
