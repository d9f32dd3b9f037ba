"""Corpora are found, read in pieces, checked and split. An error names the place and the cure."""

import gzip
import hashlib
import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from nas.data import splits, text_census, text_source, text_stream
from nas.data.catalogue import DATASETS
from nas.errors import DataError


def packed(content: bytes, name: str) -> bytes:
    """Packs the content as the name's ending says."""
    if name.endswith(".gz"):
        return gzip.compress(content)
    return bytes(pa.compress(content, codec="zstd", asbytes=True)) if name.endswith(".zst") else content


def text_of(*names: str | Path, column: str = "text") -> str:
    source = text_source.find(tuple(map(str, names)), column)
    return "".join(piece.text + "|" * (piece.last and source.documents) for _, piece in source.pieces())


def census(*names: str | Path, column: str = "text") -> text_census.Census:
    return text_census.take(text_source.find(tuple(map(str, names)), column))


def refused(*names: str | Path) -> DataError:
    with pytest.raises(DataError) as caught:
        census(*names)
    return caught.value


def test_the_python_docs_need_no_file() -> None:
    text = text_of("python-docs")
    assert len(text) > 300_000
    assert "with" in text
    found = census("python-docs")
    assert found.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert found.lengths == {"": len(text)}
    assert found.alphabet == "".join(sorted(set(text)))


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz", "text.zst"])
def test_any_text_by_its_path(tmp_path: Path, name: str) -> None:
    content = "Zwölf Boxkämpfer\r\njagen Viktor 🥊".encode()
    (tmp_path / name).write_bytes(packed(content, name))
    assert text_of(tmp_path / name).encode() == content
    assert text_source.find(str(tmp_path / name)).origin == name
    assert census(tmp_path / name).sha256 == hashlib.sha256(content).hexdigest()


def test_a_misspelt_name_is_told_the_nearest() -> None:
    error = refused("python-doc")
    assert error.code == "corpus-missing"
    assert "did you mean 'python-docs'?" in error.help
    assert "tinyshakespeare" in error.help


def test_a_misspelt_path_is_told_the_nearest_file(tmp_path: Path) -> None:
    (tmp_path / "stories.txt").write_text("once upon a time")
    assert f"did you mean '{tmp_path / 'stories.txt'}'?" in refused(tmp_path / "storys.txt").help


@pytest.mark.parametrize(
    ("content", "code", "detail"),
    [
        (b"", "corpus-empty", ""),
        (b" \n ", "corpus-empty", ""),
        (b"abc\xff", "corpus-not-text", "byte 3 is 0xff"),
        (b"abc\0d", "corpus-not-text", "byte 3 is 0x00"),
        ("ä".encode("utf-16"), "corpus-not-text", "byte 0 is 0xff"),
    ],
)
def test_what_is_not_text_is_refused(tmp_path: Path, content: bytes, code: str, detail: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    error = refused(path)
    assert (error.code, error.exit_code, error.where) == (code, 2, str(path))
    assert detail in error.detail
    assert error.help


@pytest.mark.parametrize(
    "content", [b"plain text", gzip.compress(b"text" * 99)[:-9]], ids=["no archive", "its end lost"]
)
def test_a_broken_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(content)
    assert refused(path).code == "corpus-not-text"


@pytest.mark.parametrize("name", ["pipe", "pipe.gz", "pipe.zst", "pipe.jsonl", "pipe.parquet"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert refused(tmp_path / name).code in ("corpus-unreadable", "bad-row")


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    part = gzip.compress(b"a" * (1 << 24))  # 16 KiB
    (tmp_path / "bomb.txt.gz").write_bytes(part * 6)
    error = refused(tmp_path / "bomb.txt.gz")
    assert (error.code, error.detail) == ("corpus-unreadable", "it unpacks to more than 67,108,864 bytes")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path).code == "corpus-unreadable"


def test_another_text_in_place_of_tinyshakespeare_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tinyshakespeare.txt.gz").write_bytes(gzip.compress(b"To be, or to be?"))
    monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path))
    error = refused("tinyshakespeare")
    assert error.code == "corpus-checksum"
    assert DATASETS["tinyshakespeare"].sha256 in error.detail


def test_without_network_both_ways_to_tinyshakespeare_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("pooch.retrieve", unreachable)
    error = refused("tinyshakespeare")
    assert error.code == "corpus-unreachable"
    assert "no route to host" in error.detail
    assert "network" in error.help
    assert "NAS_DATA_DIR" in error.help


@pytest.mark.skipif("NAS_DATA_DIR" not in os.environ, reason="NAS_DATA_DIR names no folder with tinyshakespeare")
def test_tinyshakespeare_has_the_customary_split() -> None:
    length = census("tinyshakespeare").lengths[""]
    assert splits.splits(length, "90/10", 64)["train"] == (0, 1_003_854)


def test_the_splits_cover_the_text_in_order() -> None:
    assert splits.splits(1005, "80/10/10", 64) == {"train": (0, 804), "val": (804, 904), "test": (904, 1005)}
    assert splits.splits(1005, "90/10", 64) == {"train": (0, 904), "val": (904, 1005), "test": (904, 1005)}


def test_a_short_text_is_told_the_largest_context_that_works() -> None:
    with pytest.raises(DataError) as caught:
        splits.splits(640, "80/10/10", context=64)
    assert caught.value.code == "corpus-too-short"
    assert "640 characters leave 64 for 'val', which needs 65" in caught.value.detail
    assert "context = 63" in caught.value.help
    splits.splits(640, "80/10/10", context=63)


def test_pieces_join_to_the_text_wherever_a_character_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_stream, "PIECE", 7)
    text = "\ufeffZwölf 🥊 Boxkämpfer\n" * 20
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert text_of(tmp_path / "a.txt") == text.removeprefix("\ufeff")
    (tmp_path / "a.txt").write_bytes(("🥊" * 5).encode() + b"\xff")
    assert "byte 20 is 0xff" in refused(tmp_path / "a.txt").detail
    (tmp_path / "a.txt").write_bytes("ab🥊".encode()[:-1])
    assert "byte 2 is 0xf0: unexpected end of data" in refused(tmp_path / "a.txt").detail


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst", "rows.parquet"])
def test_each_row_of_a_table_is_a_document(tmp_path: Path, name: str) -> None:
    texts = ["One text.", "Two\nlines", "drei Äpfel"]
    if name.endswith(".parquet"):
        pd.DataFrame({"body": texts, "n": [1, 2, 3]}).to_parquet(tmp_path / name)
    else:
        lines = "\n".join(json.dumps({"n": 1, "body": text}) for text in texts)
        (tmp_path / name).write_bytes(packed(lines.encode(), name))
    assert text_of(tmp_path / name, column="body") == "One text.|Two\nlines|drei Äpfel|"
    assert census(tmp_path / name, column="body").documents == {"": 3}
    error = refused(tmp_path / name)
    assert (error.code, error.exit_code) == ("missing-column", 2)
    assert "body" in error.detail
    assert "task.column" in error.help


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"text": 3}', "text is not a text: 3"),
        ('{"text": "a\\u0000b"}', "zero byte"),
        ('{"text": "\\ud800"}', "half a character"),
        ("[1]", "not an object"),
        ("{", "not JSON"),
        ("[" * 5000, "not JSON"),
    ],
)
def test_a_row_without_a_text_is_refused_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "fine"}\n\n' + line)
    error = refused(tmp_path / "rows.jsonl")
    assert told in error.message
    assert error.where.endswith("line 3")


def test_several_files_and_patterns_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, text in (("b.txt", "bee"), ("a.txt", "ay"), ("sub/c.txt", "sea")):
        (tmp_path / name).write_text(text)
    assert text_of(tmp_path / "*.txt") == "ay|bee|"
    assert text_of(tmp_path / "**/*.txt") == "ay|bee|sea|"
    assert text_of(tmp_path / "b.txt", tmp_path / "sub/*") == "bee|sea|"
    (tmp_path / "a[1].txt").write_text("a file with brackets in its name")
    assert text_of(tmp_path / "a[1].txt").startswith("a file")
    error = refused(tmp_path / "*.md")
    assert (error.code, error.where) == ("corpus-missing", "task.corpus")
    assert "no file fits the pattern" in error.message


def test_the_files_of_a_corpus_decide_its_hash(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    both = census(tmp_path / "a.txt", tmp_path / "b.txt").sha256
    assert both != census(tmp_path / "b.txt", tmp_path / "a.txt").sha256
    assert census(tmp_path / "a.txt").sha256 == hashlib.sha256(b"a.txt").hexdigest()


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one text")
    before = census(path)
    assert census(path) == before
    path.write_text("two text")  # of the same length
    assert census(path).sha256 == hashlib.sha256(b"two text").hexdigest()
    assert "o" in before.alphabet


def test_a_damaged_note_in_the_cache_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.txt").write_text("one text")
    sound = census(tmp_path / "a.txt")
    (note,) = (tmp_path / "cache" / "texts").iterdir()
    for damage in ("", "{", "[]", '{"sha256": 3}', json.dumps({**json.loads(note.read_text()), "lengths": {"": "x"}})):
        note.write_text(damage)
        assert census(tmp_path / "a.txt") == sound


def test_the_parts_of_a_data_set_are_its_splits() -> None:
    assert splits.spans_of({"": 1005}, "80/10/10", 64) == splits.splits(1005, "80/10/10", 64)
    named = {"train": 1000, "val": 200, "test": 300}
    assert splits.spans_of(named, "80/10/10", 64) == {"train": (0, 1000), "val": (1000, 1200), "test": (1200, 1500)}
    without_test = splits.spans_of({"train": 1000, "val": 200}, "80/10/10", 64)
    assert without_test == {"train": (0, 900), "val": (1000, 1200), "test": (900, 1000)}
    without_val = splits.spans_of({"train": 1000, "test": 300}, "80/10/10", 64)
    assert without_val == {"train": (0, 900), "val": (900, 1000), "test": (1000, 1300)}


def test_a_file_that_goes_while_it_is_wanted_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one text")
    source = text_source.find(str(tmp_path / "a.txt"))
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError, match="no data set or file"):
        list(source.pieces())
