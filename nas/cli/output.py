"""Decides where output goes: data to standard output, messages to standard error."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, JustifyMethod, OverflowMethod
from rich.style import Style
from rich.text import Text

from nas.printable import escaped, printable
from nas.running.study_log import LogFormatter

FORMAT = 1


class Terminal(Console):
    """A console for people. It escapes and shortens every string that it prints, in tables too, since names, reasons
    and architectures come from files. Brackets stay as they are.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render_str(
        self,
        text: str,
        *,
        style: str | Style = "",
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        emoji: bool | None = None,
        markup: bool | None = None,
        highlight: bool | None = None,
        highlighter: Any = None,
    ) -> Text:
        return super().render_str(
            printable(text),
            style=style,
            justify=justify,
            overflow=overflow,
            emoji=emoji,
            markup=markup,
            highlight=highlight,
            highlighter=highlighter,
        )


def people() -> Console:
    """Returns the console on standard error, looked up at each call, so that tests and redirections work."""
    return Terminal(stderr=True)


def tell(text: str) -> None:
    """Prints a line on standard output, exact for programs, escaped on a terminal."""
    sys.stdout.write((escaped(text) if sys.stdout.isatty() else text) + "\n")
    sys.stdout.flush()


def emit(kind: str, **facts: Any) -> None:
    """Prints one line of `--json`: {"v": 1, "type": kind, ...}. It never holds NaN."""
    sys.stdout.write(json.dumps({"v": FORMAT, "type": kind, **facts}, allow_nan=False) + "\n")
    sys.stdout.flush()


@contextmanager
def logged(verbose: int) -> Iterator[None]:
    """Prints the study's log on standard error too, with -v."""
    log, level, handler = logging.getLogger("nas"), logging.getLogger("nas").level, logging.StreamHandler()
    if verbose:
        handler.setFormatter(LogFormatter())
        log.setLevel(logging.DEBUG)
        log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
