"""Makes text from outside safe to print: it escapes control characters, and shortens long lines in the middle.

Names, keys, cells, reasons and messages of other programs may hold anything. On a terminal an escape sequence in them
could move the cursor or hide text, so all text for people passes through here. Output for programs (JSON, CSV, files)
stays exact.
"""

import re

MOST_IN_A_LINE = 1000
"""So many characters of a line are shown."""
MOST_LINES = 200
"""So many lines of one text are shown."""

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters besides tab and line feed, line separators, marks that change the writing direction, and halves of
characters, which no stream can write.
"""


def printable(text: str) -> str:
    """Escapes control characters as Python writes them, and shortens long lines and long texts."""
    lines = text.split("\n")
    left_out = len(lines) - MOST_LINES
    shown = [_shortened(escaped(line)) for line in lines[:MOST_LINES]]
    return "\n".join([*shown, f"... ({left_out:,} more lines)"] if left_out > 0 else shown)


def escaped(text: str) -> str:
    """Returns the whole text with control characters escaped, for logs."""
    return CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def on_one_line(text: str) -> str:
    """Makes text printable on one line, with line feeds and tabs escaped too: a name cannot begin a line of its own."""
    return printable(text.replace("\n", "\\n").replace("\t", "\\t"))


def quoted(value: object, most: int = 200) -> str:
    """Returns the value as Python writes it, shortened, so that a message about any value stays short."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits, or lists in lists without end
        text = f"{type(value).__name__} beyond all bounds"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _shortened(line: str) -> str:
    """Keeps the beginning and the end of a long line, since a message names the fault after the value that it
    quotes.
    """
    left_out = len(line) - MOST_IN_A_LINE
    if left_out <= 0:
        return line
    beginning, end = MOST_IN_A_LINE * 3 // 5, MOST_IN_A_LINE * 2 // 5
    return f"{line[:beginning]} ... ({left_out:,} characters left out) ... {line[-end:]}"
