"""Tokenised corpora are made once, whole or not at all, and every process maps the same file."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.data import token_cache
from nas.data.token_cache import TokenWriter
from nas.settings.task_settings import TextTask
from nas.tasks.prepared_text import prepare
from tests.data.slow_filling import KEY, slowly


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    return tmp_path / "tokens"


def counting(calls: list[int]) -> Callable[[TokenWriter], Mapping[str, Any]]:
    def fill(writer: TokenWriter) -> Mapping[str, Any]:
        calls.append(1)
        writer.append("tokens", np.arange(5, dtype="<u2"))
        writer.append("tokens", np.arange(5, 9, dtype="<u2"))
        writer.append("places", np.asarray([0, 9], dtype="<i8"))
        return {"vocabulary": 9}

    return fill


def test_an_entry_is_made_once_and_then_mapped(folder: Path) -> None:
    calls = list[int]()
    for _ in range(3):
        entry = token_cache.obtain(KEY, counting(calls))
        assert entry.arrays["tokens"].tolist() == list(range(9))
        assert entry.arrays["tokens"].dtype == np.uint16
        assert entry.arrays["places"].tolist() == [0, 9]
        assert entry.about == {"vocabulary": 9}
        assert not entry.arrays["tokens"].flags.writeable
    assert calls == [1]
    token_cache.obtain({"text": "abd"}, counting(calls))
    assert calls == [1, 1]
    assert len(list(token_cache.entries())) == 2


@pytest.mark.parametrize("damage", ["shorter", "no about", "no array", "another type", "no JSON"])
def test_a_damaged_entry_is_made_again(folder: Path, damage: str) -> None:
    calls = list[int]()
    place = token_cache.obtain(KEY, counting(calls)).folder
    assert place
    array, about = place / "tokens.bin", place / "about.json"
    match damage:
        case "shorter":
            array.write_bytes(array.read_bytes()[:-2])
        case "no about":
            about.unlink()
        case "no array":
            array.unlink()
        case "another type":
            about.write_text(about.read_text().replace("<u2", "|O"))
        case "no JSON":
            about.write_text("{")
    entry = token_cache.obtain(KEY, counting(calls))
    assert calls == [1, 1]
    assert entry.arrays["tokens"].tolist() == list(range(9))


def test_a_failure_leaves_nothing(folder: Path) -> None:
    def fails(writer: TokenWriter) -> Mapping[str, Any]:
        writer.append("tokens", np.arange(5, dtype="<u2"))
        raise ValueError("the text ends here")

    with pytest.raises(ValueError, match="the text ends here"):
        token_cache.obtain(KEY, fails)
    assert [path for path in folder.iterdir() if path.is_dir()] == []


def test_where_the_cache_cannot_be_written_the_tokens_are_of_this_process_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.parent / "file").write_text("")
    monkeypatch.setenv("NAS_CACHE", str(folder.parent / "file"))
    calls = list[int]()
    entry = token_cache.obtain(KEY, counting(calls))
    assert entry.arrays["tokens"].tolist() == list(range(9))
    assert entry.folder is None
    token_cache.obtain(KEY, counting(calls))
    assert calls == [1, 1]


def test_giving_back_memory_keeps_the_tokens(folder: Path) -> None:
    tokens = token_cache.obtain(KEY, counting([])).arrays["tokens"]
    token_cache.release(tokens[2:])
    assert tokens.tolist() == list(range(9))
    token_cache.release(np.arange(3))  # no mapped one


def test_of_several_processes_one_makes_it(folder: Path) -> None:
    spawn, log = multiprocessing.get_context("spawn"), folder.parent / "log"
    processes = [spawn.Process(target=slowly, args=(log, 0.5)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert log.read_text() == "begun\n"


KILLED = """
import os, signal, sys
from pathlib import Path
from nas.data import token_cache
from nas.settings.task_settings import TextTask
from nas.tasks import prepared_text

token_cache.os.fsync = lambda descriptor, left=[int(sys.argv[2])]: left.append(left.pop() - 1) or left[0] or os.kill(
    os.getpid(), signal.SIGKILL
)
prepared_text.prepare(TextTask(corpus=sys.argv[1], subwords=300))
"""


@pytest.mark.parametrize("point", [1, 2])
def test_whoever_is_killed_while_it_writes_leaves_nothing_half_written(folder: Path, point: int) -> None:
    """Killed when the tokens are written, and when they are described; then cleaned, or prepared by the next one."""
    text = folder.parent / "text.txt"
    text.write_text("some words of a text, " * 500)
    done = subprocess.run([sys.executable, "-c", KILLED, str(text), str(point)], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert list(token_cache.entries()) == []
    (left,) = (path for path in folder.iterdir() if path.is_dir())
    assert left.name.endswith(".tmp")
    if point == 1:
        assert token_cache.clean()[0] == 0
        assert list(folder.iterdir()) == []
    found = prepare(TextTask(corpus=str(text), subwords=300))
    assert found.coder.decode(found.tokens.tolist()) == text.read_text()
    assert [path for path in folder.iterdir() if path.is_dir()] == [found.entry.folder]


def test_two_processes_that_prepare_one_text_share_it(folder: Path) -> None:
    text = folder.parent / "text.txt"
    text.write_text("some words of a text, " * 500)
    code = (
        "import json, sys; from nas.settings.task_settings import TextTask; from nas.tasks import prepared_text;"
        "found = prepared_text.prepare(TextTask(corpus=sys.argv[1], subwords=300));"
        "print(json.dumps([str(found.entry.folder), found.tokens.tolist()]))"
    )
    command = [sys.executable, "-c", code, str(text)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert told[0] == told[1]
    assert [str(place) for place, _, _ in token_cache.entries()] == [json.loads(told[0])[0]]
    assert [path for path in folder.iterdir() if path.is_dir()] == [Path(json.loads(told[0])[0])]


def test_a_killed_process_leaves_nothing_that_is_believed(folder: Path) -> None:
    spawn, log = multiprocessing.get_context("spawn"), folder.parent / "log"
    process = spawn.Process(target=slowly, args=(log, 600.0))
    process.start()
    while not log.exists():
        time.sleep(0.01)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert next(path.name for path in folder.iterdir() if path.is_dir()).endswith(".tmp")
    entry = token_cache.obtain(KEY, counting([]))
    assert entry.arrays["tokens"].tolist() == list(range(9))
    assert [path for path in folder.iterdir() if path.is_dir()] == [entry.folder]
