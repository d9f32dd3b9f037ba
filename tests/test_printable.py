"""What people read: escape sequences are shown, never obeyed, and long values lose their middle."""

import pytest

from nas.errors import NasError, nearest
from nas.printable import MOST_IN_A_LINE, MOST_LINES, on_one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, Zwölf, 漢字, 🥊, a\tb\nc", "plain, Zwölf, 漢字, 🥊, a\tb\nc"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("over\rwritten\b", "over\\rwritten\\x08"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("half \udc80", "half \\udc80"),
        ("", ""),
    ],
)
def test_control_characters_are_escaped(text, shown):
    assert printable(text) == shown
    assert printable(text).encode().decode() == shown


def test_long_lines_keep_beginning_and_end():
    shown = printable(f"key = {'x' * 100_000}: unknown value\nnext")
    assert shown.startswith("key = xxx")
    assert shown.endswith(": unknown value\nnext")
    assert "characters left out" in shown
    assert len(shown) < MOST_IN_A_LINE + 100


def test_long_texts_keep_their_first_lines():
    shown = printable("line\n" * 100_000).split("\n")
    assert (len(shown), shown[-1]) == (MOST_LINES + 1, "... (99,801 more lines)")


def test_a_name_begins_no_line_of_its_own():
    assert on_one_line("a\nerror[x]: b\tc") == "a\\nerror[x]: b\\tc"


def test_errors_are_printable_and_keep_their_text_for_programs():
    value = "\x1b[2J" + "x" * 100_000
    error = NasError(f"bad '{value}'\nerror[other]: forged", where=value, detail=f"{value}\n" * 2, help=value)
    lines = error.render().split("\n")
    assert [line[:10] for line in lines] == ["error[fail", "  --> \\x1b", "      \\x1b", "      \\x1b", "  help: \\x"]
    assert all(len(line) < MOST_IN_A_LINE + 100 for line in lines)
    assert value in str(error)


def test_near_names_are_not_looked_for_among_long_ones():
    assert nearest("x" * 10**6, ["a" * 10**6, "b"]).startswith("one of a")
