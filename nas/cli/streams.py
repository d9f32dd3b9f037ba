"""Decides what becomes of a command when its output cannot be written: a reader that goes away, a full disk, an old
encoding.

People's text on standard error is a courtesy: where it cannot be written, the command goes on. Standard output is the
answer: when its reader has seen enough (`nas front X | head -1`), the command ends with exit code 0; when the disk is
full, with 5. A search goes on in both cases, since hours of work do not depend on who looks on (`go_on_without`).
"""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from nas.errors import OutOfReach

PLAIN = {"×": "x", "–": "-", "—": "-", "−": "-", "…": "...", "→": "->", "≤": "<=", "≥": ">=", "τ": "tau", "·": "*"}
"""The plain form of a character that the output's encoding lacks. Others are shown by their number."""


class ReaderGone(Exception):
    """Nobody reads standard output any more. No OSError, which libraries on the way would answer for themselves."""


class Outlet:
    """A text stream, or the bytes below it, whose failures are these: see the module. All else is the stream's own."""

    def __init__(self, stream: Any, forgiving: bool) -> None:
        self._stream = stream
        self.forgiving, self.lost = forgiving, None

    lost: OSError | None
    """The reason why nothing is written any more."""

    def write(self, data: Any) -> int:
        return int(self._unless_lost(lambda: self._stream.write(data)) or len(data))

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._unless_lost(self._stream.flush)

    @property
    def buffer(self) -> "Outlet":
        return Outlet(self._stream.buffer, self.forgiving)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _unless_lost(self, call: Any) -> Any:
        if self.lost:
            return None
        try:
            return call()
        except OSError as error:
            self.lost = error
            self._write_nowhere()
        if not self.forgiving:
            raise ReaderGone if isinstance(self.lost, BrokenPipeError) else cannot_write(self.lost)
        return None

    def _write_nowhere(self) -> None:
        """Python writes what is left when it ends, and would complain again."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def cannot_write(error: OSError) -> OutOfReach:
    help = "free some room, or write elsewhere"
    return OutOfReach(f"standard output cannot be written: {error.strerror}", code="output", help=help)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Standard output and standard error as outlets; the former ones come back afterwards."""
    _fill_closed()
    codecs.register_error("nas-plain", _plain)
    former = sys.stdout, sys.stderr
    for stream in former:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="nas-plain")
    sys.stdout, sys.stderr = Outlet(former[0], forgiving=False), Outlet(former[1], forgiving=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = former


def go_on_without() -> None:
    """From now on this command goes on when standard output cannot be written."""
    if isinstance(sys.stdout, Outlet):
        sys.stdout.forgiving = True


def written() -> None:
    """Write what is left. Raises what the module says; after `go_on_without` for a full disk alone."""
    sys.stdout.flush()
    if isinstance(sys.stdout, Outlet) and sys.stdout.lost and not isinstance(sys.stdout.lost, BrokenPipeError):
        raise cannot_write(sys.stdout.lost)


def _fill_closed() -> None:
    """A stream that is closed (`nas list >&-`) writes nowhere, and its number is not given to a database's file."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                os.fstat(number)
                continue
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            # Open for as long as the program runs.
            setattr(sys, name, os.fdopen(nowhere, "r" if number == 0 else "w", encoding="utf-8"))


def _plain(error: UnicodeError) -> tuple[str, int]:
    """The error handler of the output's encoding."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text), error.end
