"""Where things are printed: data on standard output, people on standard error."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

FORMAT = 1


def people() -> Console:
    """The console on standard error. Looked up anew, so that tests and redirections are seen. What users named is
    printed as it is, brackets and all."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def emit(kind: str, **facts: Any) -> None:
    """One line of `--json`: {"v": 1, "type": kind, ...}. NaN never reaches it."""
    sys.stdout.write(json.dumps({"v": FORMAT, "type": kind, **facts}, allow_nan=False) + "\n")
    sys.stdout.flush()


@contextmanager
def logged(verbose: int) -> Iterator[None]:
    """With -v, what goes to the study's log is told on standard error too."""
    log, level, handler = logging.getLogger("nas"), logging.getLogger("nas").level, logging.StreamHandler()
    if verbose:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.setLevel(logging.DEBUG)
        log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
