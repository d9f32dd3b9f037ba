"""Files are written whole or not at all."""

import os
from pathlib import Path

import pytest

from nas import files
from nas.errors import OutOfReach


def test_folders_are_made_and_nothing_else_is_left(tmp_path):
    files.write_json(tmp_path / "new" / "data.json", {"é": [1]})
    assert (tmp_path / "new" / "data.json").read_text(encoding="utf-8") == '{\n  "é": [\n    1\n  ]\n}\n'
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["data.json"]


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "data.txt"
    files.write_text(path, "old")

    def half(beside):
        beside.write_text("new, but only ha")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutOfReach) as caught:
        files.replace(path, half)
    assert (caught.value.code, caught.value.where) == ("disk", str(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_only_ordinary_files_are_read_and_nothing_is_waited_for(tmp_path, make):
    make(tmp_path / "x")
    with pytest.raises((OSError, ValueError)):
        files.read_bytes(tmp_path / "x", 10)


def test_a_file_is_read_up_to_its_bound(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert files.read_bytes(tmp_path / "x", 5) == b"12345"
    with pytest.raises(ValueError, match="larger than 4 bytes"):
        files.read_bytes(tmp_path / "x", 4)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc")
def test_what_the_kernel_makes_up_counts_as_empty():
    assert files.read_bytes(Path("/proc/self/status"), 100) == b""
