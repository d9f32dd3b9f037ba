"""Corpora are found, checked and split; what is wrong with one is told with its cure."""

import gzip
import hashlib
import os
from pathlib import Path

import pytest

from nas.data import text as corpora
from nas.data.catalogue import DATASETS
from nas.errors import DataError


def refused(name: str | Path) -> DataError:
    with pytest.raises(DataError) as caught:
        corpora.load(str(name))
    return caught.value


def test_the_python_docs_need_no_file() -> None:
    corpus = corpora.load("python-docs")
    assert len(corpus.text) > 300_000
    assert "with" in corpus.text
    assert corpus == corpora.load("python-docs")
    assert corpus.sha256 == hashlib.sha256(corpus.text.encode()).hexdigest()


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz"])
def test_any_text_by_its_path(tmp_path: Path, name: str) -> None:
    content = "Zwölf Boxkämpfer\r\njagen Viktor 🥊".encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    corpus = corpora.load(str(tmp_path / name))
    assert corpus.text.encode() == content
    assert (corpus.source, corpus.sha256) == (name, hashlib.sha256(content).hexdigest())


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


@pytest.mark.parametrize("name", ["pipe", "pipe.gz"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert refused(tmp_path / name).code == "corpus-unreadable"


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    part = gzip.compress(bytes(1 << 24))  # 16 KiB
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
    text = corpora.load("tinyshakespeare").text
    assert corpora.splits(len(text), "90/10", 64)["train"] == (0, 1_003_854)


def test_the_splits_cover_the_text_in_order() -> None:
    assert corpora.splits(1005, "80/10/10", 64) == {"train": (0, 804), "val": (804, 904), "test": (904, 1005)}
    assert corpora.splits(1005, "90/10", 64) == {"train": (0, 904), "val": (904, 1005), "test": (904, 1005)}


def test_a_short_text_is_told_the_largest_context_that_works() -> None:
    with pytest.raises(DataError) as caught:
        corpora.splits(640, "80/10/10", context=64)
    assert caught.value.code == "corpus-too-short"
    assert "640 characters leave 64 for 'val', which needs 65" in caught.value.detail
    assert "context = 63" in caught.value.help
    corpora.splits(640, "80/10/10", context=63)
