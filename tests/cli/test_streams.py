"""Every command when its output cannot be written; a few in processes of their own, as streams belong to a process."""

import errno
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nas.api import checking
from nas.api.study import open_study
from nas.cli.__main__ import main

ANSWERS = (
    "list",
    "list --json",
    "status demo",
    "status demo --json",
    "front demo",
    "front demo --format json",
    "front demo --format csv",
    "front demo --format parquet",
    "show demo 0",
    "show demo 0 --json",
    "doctor",
    "doctor --json",
    "spaces",
    "data list",
    "data list --json",
    "init new.toml",
    "--version",
    "--help",
    *(
        pytest.param(command, marks=pytest.mark.slow)
        for command in (
            "check demo.toml",
            "search demo.toml --dry-run --json",
            "report demo --out page",
            "train demo 0",
            "generate demo 0 --prompt the",
            "bench samplers table.csv --params p --objectives a:min,b:min --samplers random --trials 3 --seeds 1",
        )
    ),
)
PEOPLE = ("init", "report", "train", "bench", "generate")
"""Commands that speak to people on the way."""
TABLE = "p,a,b\n" + "".join(f"{n},{n},{9 - n}\n" for n in range(9))
needs_a_full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


FULL = OSError(errno.ENOSPC, "No space left on device")
GONE = BrokenPipeError(errno.EPIPE, "Broken pipe")


class Broken(io.RawIOBase):
    """A file that takes nothing."""

    def __init__(self, error: OSError) -> None:
        self.error = error

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        raise self.error


def ended(monkeypatch, command: str, output: io.TextIOBase) -> int:
    """The exit code of a command that writes to `output`."""
    with monkeypatch.context() as patched:
        patched.setattr(sys, "argv", ["nas", *command.split()])
        patched.setattr(sys, "stdout", output)
        with pytest.raises(SystemExit) as caught:
            main()
    return int(caught.value.code or 0)


def broken(error: OSError) -> io.TextIOWrapper:
    """A text stream, which fails at the end of a line, and is quiet when it is thrown away."""
    stream = io.TextIOWrapper(io.BufferedWriter(Broken(error)), encoding="utf-8", line_buffering=True)
    stream.close = lambda: None
    return stream


@pytest.fixture(scope="module")
def furnished(stored, settings, tmp_path_factory) -> Path:
    """A folder with what the commands need: a study file, a table, and a study whose trial 0 is trained."""
    folder = tmp_path_factory.mktemp("furnished")
    shutil.copytree(stored, folder / "runs")
    (folder / "search_spaces").mkdir()
    for file in (folder / "demo.toml", folder / "search_spaces" / "demo.toml"):
        file.write_text(settings.to_toml())
    (folder / "table.csv").write_text(TABLE)
    open_study(folder / "runs" / "demo").train(0)
    return folder


@pytest.fixture
def here(nas, furnished, tmp_path, monkeypatch, parts_in_this_process) -> None:
    shutil.copytree(furnished, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("NAS_RUNS", "runs")
    monkeypatch.setattr(checking, "TIMED_SECONDS", 0.0)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", ANSWERS)
@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (GONE, 0, ""),
        (FULL, 5, "error[output]: standard output cannot be written: No "),
    ],
    ids=["the reader goes away", "the disk is full"],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_reader_that_goes_away_is_no_error_and_a_full_disk_is_told(monkeypatch, capsys, command, error, code, told):
    assert ended(monkeypatch, command, broken(error)) == code
    said = capsys.readouterr().err
    assert told in said
    assert said.count("error[") == bool(told), said
    if not command.startswith(PEOPLE):
        assert said.startswith(told)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", [answer for answer in ANSWERS if "parquet" not in str(answer)])
def test_an_encoding_that_lacks_a_character_gets_a_plain_form(monkeypatch, command):
    written = io.BytesIO()
    assert ended(monkeypatch, command, io.TextIOWrapper(written, encoding="ascii", write_through=True)) == 0
    assert written.getvalue().isascii()


def run(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess:
    """What bash does with the line; with `pipefail`, so that the command's own exit code counts."""
    script = f'set -o pipefail; nas() {{ "{sys.executable}" -m nas.cli "$@"; }}; {line}'
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | variables
    return subprocess.run(
        ["bash", "-c", script], env=environment, cwd=folder, capture_output=True, text=True, timeout=280
    )


@pytest.mark.slow
@pytest.mark.waits
@needs_a_full_disk
def test_the_same_in_a_shell(stored, tmp_path):
    lines = {
        "nas front demo | true": 0,
        "nas front demo >/dev/full": 5,
        "nas front demo >&-": 0,
        "nas show demo 99 2>/dev/full": 2,
        "nas list 2>&-": 0,
        "PYTHONIOENCODING=ascii nas show demo 0": 0,
    }
    # One shell: each process takes a second or two to start.
    ran = run("; ".join(f"({line}); echo = $?" for line in lines), tmp_path, NAS_RUNS=str(stored))
    codes = [int(line[2:]) for line in ran.stdout.splitlines() if line.startswith("= ")]
    assert dict(zip(lines, codes, strict=True)) == lines, ran.stderr
    assert ran.stderr.splitlines()[0].startswith("error[output]: standard output cannot be written: No space left")


@pytest.mark.slow
@pytest.mark.usefixtures("quick_search")
@pytest.mark.parametrize(
    ("options", "output", "errors", "code"),
    [
        (" --json", GONE, None, 0),
        (" --json", FULL, None, 5),
        ("", GONE, FULL, 0),
    ],
    ids=["the reader goes away", "the disk is full", "neither can be written"],
)
def test_a_search_goes_on_without_its_display(settings, tmp_path, monkeypatch, options, output, errors, code):
    """One trial, whoever looks on. With a full disk on standard output the end says so, when all is done."""
    (tmp_path / "demo.toml").write_text(settings.to_toml())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_RUNS", "runs")
    monkeypatch.setenv("NAS_REPORTS", "reports")
    if errors:
        monkeypatch.setattr(sys, "stderr", broken(errors))
    command = "search demo.toml --executor serial --trials 1" + options
    assert ended(monkeypatch, command, broken(output)) == code
    assert open_study(tmp_path / "runs" / "demo").record().trained_count() == 1
    assert (tmp_path / "reports" / "demo" / "index.html").exists()
