"""The rows of a table lie on the disk, and come back one by one, equal to those that were read."""

import json
from pathlib import Path

import numpy as np
import pytest

from nas.data import ragged, row_store, table_source, token_cache
from nas.data.rows import Column
from nas.data.token_cache import TokenWriter
from nas.errors import DataError

COLUMNS = (Column("text", "text"), Column("label", "label"))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ragged, "WRITTEN_AT_ONCE", 7)
    monkeypatch.setattr(ragged, "READ_AT_ONCE", 3)


def lines(path: Path, count: int, word: str = "Zwölf \u2028") -> str:
    rows = ({"text": f"{word} {number}", "label": number % 3, "other": [1]} for number in range(count))
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def test_stored_rows_are_the_rows(tmp_path: Path) -> None:
    corpus = lines(tmp_path / "rows.jsonl", 50)
    whole = table_source.load(corpus, COLUMNS, {})
    for _ in range(2):
        stored = row_store.opened(table_source.find(corpus, COLUMNS, {}))
        assert tuple(stored.rows) == whole.rows
        assert tuple(stored.places) == whole.places
        assert stored.sha256 == whole.sha256
        assert stored.rows[-1] == whole.rows[-1]
        assert list(stored.rows[3:5]) == list(whole.rows[3:5])
    assert len(list(token_cache.entries())) == 1


def test_an_unchanged_table_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = lines(tmp_path / "rows.jsonl", 20)
    row_store.opened(table_source.find(corpus, COLUMNS, {}))
    with monkeypatch.context() as patch:
        patch.setattr("nas.data.fetch.parts_of", lambda *_: pytest.fail("it is read"))
        assert len(row_store.opened(table_source.find(corpus, COLUMNS, {})).rows) == 20
    lines(tmp_path / "rows.jsonl", 20, "other")
    assert row_store.opened(table_source.find(corpus, COLUMNS, {})).rows[0]["text"] == "other 0"


def test_other_columns_are_other_rows(tmp_path: Path) -> None:
    corpus = lines(tmp_path / "rows.jsonl", 5)
    row_store.opened(table_source.find(corpus, COLUMNS, {}))
    texts = row_store.opened(table_source.find(corpus, COLUMNS, {"label": "text"}))
    assert texts.rows[0]["label"] == texts.rows[0]["text"].strip()


def test_of_a_table_with_a_wrong_row_nothing_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines(path, 30)
    path.write_text(path.read_text() + '\n{"text": "", "label": 1}')
    with pytest.raises(DataError, match="line 31: text is empty"):
        row_store.opened(table_source.find(str(path), COLUMNS, {}))
    assert list(token_cache.entries()) == []


def test_sequences_of_any_length_come_back(tmp_path: Path) -> None:
    told = [list(range(number % 5)) for number in range(40)]

    def fill(writer: TokenWriter) -> dict[str, int]:
        ragged.write(writer, "tokens", told, np.dtype("<u2"))
        ragged.write(writer, "none", [], np.dtype("<u2"))
        return {}

    arrays = token_cache.obtain({"of": "lists"}, fill).arrays
    found = ragged.read(arrays, "tokens")
    assert [tokens.tolist() for tokens in found] == told
    assert found.lengths.tolist() == list(map(len, told))
    part = found.part(11, 9)
    assert [tokens.tolist() for tokens in part] == told[11:20]
    assert part.lengths.tolist() == list(map(len, told[11:20]))
    assert part[-1].tolist() == told[19]
    assert [tokens.tolist() for tokens in part.beside(np.asarray(part.values) + 1)] == [
        [token + 1 for token in tokens] for tokens in told[11:20]
    ]
    with pytest.raises(IndexError):
        part[9]
    assert len(ragged.read(arrays, "none")) == 0
