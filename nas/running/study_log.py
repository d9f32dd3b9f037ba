"""The log of a study: `nas.log` in its folder, for tracebacks and warnings that a display has no room for."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)s %(message)s"


@contextmanager
def keep_log(folder: Path) -> Iterator[None]:
    """Log to the folder while it lasts. The file appears with its first line; the logger is as before afterwards."""
    log, handler = logging.getLogger("nas"), _Late(folder / "nas.log")
    level = log.level
    log.setLevel(min(level or logging.INFO, logging.INFO))
    handler.setFormatter(logging.Formatter(FORMAT))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
        log.setLevel(level)


class _Late(logging.FileHandler):
    """Opens its file with the first record, and lets the search live when the disk refuses it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)
