"""Files are written whole or not at all."""

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
