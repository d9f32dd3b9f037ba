"""Decides where things are printed: data on standard output, people on standard error."""

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
    """A console for people. It escapes and shortens every string that it is given, in tables too: names, reasons and
    architectures come from files. Brackets stay as they are."""

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
    """The console on standard error, looked up anew, so that tests and redirections are seen."""
    return Terminal(stderr=True)


def tell(text: str) -> None:
    """A line on standard output, exact for programs; escaped where it is a terminal."""
    sys.stdout.write((escaped(text) if sys.stdout.isatty() else text) + "\n")
    sys.stdout.flush()


def emit(kind: str, **facts: Any) -> None:
    """One line of `--json`: {"v": 1, "type": kind, ...}. NaN never reaches it."""
    sys.stdout.write(json.dumps({"v": FORMAT, "type": kind, **facts}, allow_nan=False) + "\n")
    sys.stdout.flush()


@contextmanager
def logged(verbose: int) -> Iterator[None]:
    """With -v, what goes to the study's log is told on standard error too."""
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
