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
