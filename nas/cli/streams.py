"""Handles output that cannot be written: a reader that goes away, a full disk, an encoding without a character.

Messages on standard error are optional: where they cannot be written, the command continues. Standard output is the
answer: when its reader goes away (`nas front X | head -1`), the command ends with exit code 0; when the disk is full,
with 5. A search continues in both cases, since hours of work must not depend on a reader (`go_on_without`).
"""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from nas.errors import OutOfReach

PLAIN = {
    "×": "x",
    "±": "+-",
    "–": "-",
    "—": "-",
    "−": "-",
    "…": "...",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "≈": "~=",
    "τ": "tau",
    "·": "*",
}
"""The plain form of a character that the output's encoding lacks. Others are shown by their number."""


class ReaderGone(Exception):
    """The reader of standard output has gone. It is no OSError, which libraries in between would handle themselves."""


class Outlet:
    """A text stream, or the bytes below it, whose write errors are handled as the module says.

    All else is the stream's own.
    """

    def __init__(self, stream: Any, forgiving: bool) -> None:
        self._stream = stream
        self.forgiving, self.lost = forgiving, None

    lost: OSError | None
    """The reason why nothing more is written."""

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
        """Discards later output, since Python writes what is left when it ends, and would report the error again."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def cannot_write(error: OSError) -> OutOfReach:
    help = "free some space, or write elsewhere"
    return OutOfReach(f"standard output cannot be written: {error.strerror}", code="output", help=help)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Replaces standard output and standard error by outlets, and restores the former ones afterwards."""
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
    """Makes this command continue from now on when standard output cannot be written."""
    if isinstance(sys.stdout, Outlet):
        sys.stdout.forgiving = True


def written() -> None:
    """Writes what is left. Raises as the module says; after `go_on_without` for a full disk alone.

    What was lost before is told here only where the command went on without it; else it is told already.
    """
    sys.stdout.flush()
    lost = sys.stdout.lost if isinstance(sys.stdout, Outlet) and sys.stdout.forgiving else None
    if lost and not isinstance(lost, BrokenPipeError):
        raise cannot_write(lost)


def _fill_closed() -> None:
    """Opens a closed stream (`nas list >&-`) on /dev/null, so that no database file gets its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                os.fstat(number)
                continue
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            # Open for as long as the program runs.
            setattr(sys, name, os.fdopen(nowhere, "r" if number == 0 else "w", encoding="utf-8"))


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Handles characters that the output's encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text), error.end
