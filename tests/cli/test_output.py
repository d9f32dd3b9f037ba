"""What commands print for people is escaped; what programs read is exact."""

import io
import json
import logging

import pytest

from nas.cli.output import Terminal, tell
from nas.cli.tables import pairs, table
from nas.running.study_log import keep_log

SEQUENCE = "\x1b]0;owned\x07\x1b[2J"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", ["line", "table", "pairs"])
def test_no_console_obeys_what_it_prints(kind, capsys):
    console, shown = Terminal(), table("name", "[b]x")
    shown.add_row(SEQUENCE, "[red]" + "x" * 100_000)
    console.print({"line": SEQUENCE, "table": shown, "pairs": pairs({SEQUENCE: SEQUENCE})}[kind])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b]0;owned" in "".join(out.split())
    assert len(out) < 10_000


def test_a_line_for_programs_is_exact_and_one_for_a_terminal_is_escaped(monkeypatch, capsys):
    tell(SEQUENCE)
    assert capsys.readouterr().out == SEQUENCE + "\n"
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    tell(SEQUENCE)
    assert screen.getvalue() == "\\x1b]0;owned\\x07\\x1b[2J\n"


def test_the_log_is_escaped_and_whole(tmp_path):
    with keep_log(tmp_path):
        logging.getLogger("nas").warning("%s %s", SEQUENCE, "x" * 5000)
    text = (tmp_path / "nas.log").read_text(encoding="utf-8")
    assert "\\x1b[2J " + "x" * 5000 in text


def test_errors_of_commands_are_escaped(nas):
    ran = nas("check", f"{SEQUENCE}.toml")
    assert (ran.code, "\x1b" in ran.err, "\\x1b[2J.toml" in ran.err) == (2, False, True)
    ran = nas("front", "demo", "--where", f"{SEQUENCE}<=1")
    assert (ran.code, "\x1b" in ran.err) == (2, False)


def test_json_stays_exact(runs, nas):
    rows = [json.loads(line) for line in nas("list", "--json").out.splitlines()]
    assert rows[-1]["type"] == "result"
    (runs / "\x1b[2Jbad").mkdir()
    (runs / "\x1b[2Jbad" / "study.db").write_bytes(b"not a database")
    names = [json.loads(line).get("study") for line in nas("list", "--json").out.splitlines()]
    assert "\x1b[2Jbad" in names
    assert "\x1b" not in nas("list").out


@pytest.mark.parametrize("command", ["search", "train", "generate", "bench", "data", "show"])
def test_help_shows_brackets_and_no_type_of_a_flag(nas, command):
    out = nas(command, "--help").out
    assert "<bool>" not in out
    if command == "search":
        assert "[presets.NAME]" in out
    if command == "train":
        assert "[train]" in out


@pytest.mark.parametrize("group", [[], ["bench"], ["data"]])
def test_the_list_of_commands_is_told_in_whole_sentences(nas, group):
    commands = nas(*group, "--help").out.split("Commands:")[1]
    assert "..." not in commands
