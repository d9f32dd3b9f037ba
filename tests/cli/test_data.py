"""`nas data` lists what there is and brings it here."""

import gzip
import json

import pytest

from nas.data.catalogue import DATASETS


@pytest.fixture(autouse=True)
def nothing_here(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NAS_DATA_DIR", raising=False)


def test_every_data_set_is_listed_with_whether_it_is_here(nas, tmp_path, monkeypatch):
    (tmp_path / "vader_tweets.jsonl.gz").write_bytes(gzip.compress(b"{}"))
    monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path))
    *rows, result = map(json.loads, nas("data", "list", "--json").out.splitlines())
    assert {row["name"]: row["path"] is not None for row in rows} == {name: name == "tweets" for name in DATASETS}
    assert result["present"] == 1
    shown = nas("data", "list").out
    assert "sentiment" in shown
    assert "Apache-2.0" in shown


def test_an_unknown_name_is_told_the_nearest(nas):
    ran = nas("data", "fetch", "tweet")
    assert ran.code == 2
    assert "did you mean 'tweets'" in ran.err


def test_without_network_the_other_way_is_told(nas, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("pooch.retrieve", unreachable)
    ran = nas("data", "fetch", "tweets")
    assert ran.code == 2
    assert "no route to host" in ran.err
    assert "NAS_DATA_DIR" in ran.err


def test_what_is_here_is_checked(nas, tmp_path, monkeypatch):
    (tmp_path / "vader_tweets.jsonl.gz").write_bytes(gzip.compress(b"{}"))
    monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path))
    ran = nas("data", "fetch", "tweets")
    assert ran.code == 2
    assert "is not the published data" in ran.err


STUDY = """
name = "mine"
task = { corpus = "text.txt", context = 16 }
space = { depth = 1, hidden = 16, attention = [{ kind = "linear" }] }
objectives = [{ metric = "val_loss" }]
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "text.txt").write_text("a text of one's own. " * 100)
    (tmp_path / "mine.toml").write_text(STUDY)
    return tmp_path / "mine.toml"


def test_a_text_is_prepared_once_and_cleaned(nas, study, tmp_path):
    told = json.loads(nas("data", "prepare", study, "--json").out)
    assert (told["characters"], told["tokens"], told["bytes"]) == (2100, 2100, 4200)
    assert told["folder"].startswith(str(tmp_path / "cache"))
    listed = [json.loads(line) for line in nas("data", "list", "--json").out.splitlines()]
    assert [line["folder"] for line in listed if line["type"] == "prepared"] == [told["folder"]]
    assert [line["name"] for line in listed if line["type"] == "prepared"] == [str(tmp_path / "text.txt")]
    assert "prepared data" in nas("data", "list").out
    ran = nas("data", "prepare", study, "-s", "task.subwords=300")
    assert "tokens" in ran.err
    assert str(tmp_path / "cache") in ran.err
    assert json.loads(nas("data", "clean", "--json").out) | {"bytes": 0} == {
        "v": 1,
        "type": "result",
        "texts": 2,
        "bytes": 0,
    }
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []
    assert "0 prepared texts and tables" in nas("data", "clean").err


def test_cleaning_deletes_nothing_of_others(nas, study, tmp_path):
    nas("data", "prepare", study)
    folder = tmp_path / "cache" / "tokens"
    (entry,) = (path for path in folder.iterdir() if path.is_dir())
    (entry / "mine.txt").write_text("mine")
    (folder / "notes").mkdir()
    (folder / "notes" / "about.json").write_text("{}")
    (folder / ("0" * 32)).symlink_to(folder / "notes")
    assert nas("data", "clean").code == 0
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    assert left == sorted([entry.name, f"{entry.name}/mine.txt", "notes", "notes/about.json", "0" * 32])


def test_a_study_without_data_of_its_own_has_nothing_to_prepare(nas, tmp_path):
    rows = STUDY.replace('task = { corpus = "text.txt", context = 16 }', "family = ['encoder']\ntask = {}")
    (tmp_path / "rows.toml").write_text(rows)
    ran = nas("data", "prepare", tmp_path / "rows.toml", "-s", "task.kind=list_ops")
    assert ran.code == 2
    assert "neither a text nor a table" in ran.err


def test_a_table_is_prepared_once_and_cleaned(nas, tmp_path):
    rows = "".join(f"a {word} {n} day,{n % 2}\n" for n in range(60) for word in ("good", "bad"))
    (tmp_path / "rows.csv").write_text("text,label\n" + rows)
    task = 'family = ["encoder"]\ntask = { kind = "sentiment", corpus = "rows.csv", context = 16, subwords = 300 }'
    (tmp_path / "rows.toml").write_text(STUDY.replace('task = { corpus = "text.txt", context = 16 }', task))
    told = json.loads(nas("data", "prepare", tmp_path / "rows.toml", "--json").out)
    assert (told["rows"], told["vocabulary"]) == (120, 300)
    assert told["tokens"] > 120
    assert "tokens" in nas("data", "prepare", tmp_path / "rows.toml").err
    assert nas("data", "list", "--json").out.count("rows.csv") == 2  # the rows, and their tokens
    assert json.loads(nas("data", "clean", "--json").out)["texts"] == 2
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []


def test_a_text_that_is_none_is_told_and_nothing_is_kept(nas, study, tmp_path):
    (tmp_path / "text.txt").write_bytes(b"a text " * 100 + b"\xff")
    ran = nas("data", "prepare", study)
    assert ran.code == 2
    assert "byte 700 is 0xff" in ran.err
    assert not list((tmp_path / "cache").rglob("*.bin"))
