"""The log of a study: `nas.log` in its folder, for tracebacks and warnings that a display has no room for."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def keep_log(folder: Path, verbose: int) -> Iterator[None]:
    """Log to the folder while it lasts, and with -v to standard error too. The file appears with its first line."""
    handlers: list[logging.Handler] = [_Late(folder / "nas.log")]
    if verbose:
        handlers.append(logging.StreamHandler())
    log = logging.getLogger("nas")
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    log.propagate = False
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()


class _Late(logging.FileHandler):
    """Opens its file with the first record, and lets the search live when the disk refuses it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)
