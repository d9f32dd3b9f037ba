"""Data sets are found, downloaded, checked and kept: against a server on this machine, which also misbehaves."""

import dataclasses
import gzip
import hashlib
import logging
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pooch
import pytest

from nas.data import catalogue, fetch, normalise
from nas.errors import DataError, OutOfReach

TEXT = ("Whatever is published, line by line.\n" * 9000).encode()
HERE = "NAS_DATA_DIR" in os.environ


class Server(ThreadingHTTPServer):
    """Serves TEXT at every path. `cuts`: close the connection after so many bytes, one entry a request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.cuts, self.content, self.ranges, self.gone = [], [], TEXT, True, False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/text.txt"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        if self.server.gone or start >= len(self.server.content):
            self.send_error(404 if self.server.gone else 416)
            return
        rest = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else None
        self.wfile.write(rest if cut is None else rest[:cut])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with Server() as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@pytest.fixture
def dataset(server, tmp_path, monkeypatch):
    monkeypatch.delenv("NAS_DATA_DIR", raising=False)
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    return catalogue.Dataset(
        name="lines",
        task="language_modelling",
        size="9,000 lines",
        licence="public domain",
        origin="here",
        file="lines.txt.gz",
        sha256=hashlib.sha256(TEXT).hexdigest(),
        urls=(server.url,),
        normalise=normalise.unchanged,
    )


def refused(dataset):
    with pytest.raises(DataError) as caught:
        fetch.content(dataset)
    return caught.value


def test_what_is_not_here_is_downloaded_once(dataset, server):
    assert fetch.present(dataset) is None
    assert fetch.content(dataset) == TEXT
    assert fetch.content(dataset) == TEXT
    assert server.asked == [None]
    assert sorted(path.name for path in fetch.cache().iterdir() if path.is_file()) == ["lines.lock", "lines.txt.gz"]
    assert list((fetch.cache() / "raw").iterdir()) == []


def test_the_logger_of_pooch_has_its_level_again(dataset):
    """It belongs to the program that uses nas."""
    pooch.get_logger().setLevel("ERROR")
    fetch.fetch(dataset)
    assert pooch.get_logger().level == logging.ERROR


def test_the_data_folder_comes_first_and_needs_no_network(dataset, server, tmp_path, monkeypatch):
    (tmp_path / "lines.txt.gz").write_bytes(gzip.compress(TEXT))
    monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path))
    assert fetch.present(dataset) == tmp_path / "lines.txt.gz"
    assert fetch.content(dataset) == TEXT
    assert server.asked == []


def test_a_cut_connection_goes_on_where_it_ended(dataset, server):
    server.cuts = [200_000]
    error = refused(dataset)
    assert (error.code, error.where) == ("corpus-unreachable", server.url)
    assert fetch.present(dataset) is None
    assert fetch.content(dataset) == TEXT
    first, second = server.asked
    assert first is None
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= 200_000


def test_a_server_that_knows_no_ranges_starts_anew(dataset, server):
    server.cuts, server.ranges = [200_000], False
    refused(dataset)
    assert fetch.content(dataset) == TEXT


@pytest.mark.parametrize("kept", [TEXT, TEXT * 2])
def test_what_was_kept_of_a_file_as_long_or_longer_is_dropped(dataset, server, kept):
    part = fetch.cache() / "raw" / "lines" / "text.txt.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(kept)
    assert fetch.content(dataset) == TEXT
    assert len(server.asked) == 2


def test_what_another_process_has_brought_meanwhile_is_taken(dataset, server):
    fetch.fetch(dataset)
    assert fetch.fetch(dataset) == fetch.present(dataset)
    assert len(server.asked) == 1


def test_of_several_files_those_that_are_here_are_kept(dataset, server):
    def joined(files):
        assert len(files) == 2
        return files[0].read_bytes()

    base = server.url.removesuffix("text.txt")
    both = dataclasses.replace(dataset, urls=(f"{base}one.txt", f"{base}two.txt"), normalise=joined)
    server.cuts = [None, 200_000]
    assert refused(both).where.endswith("two.txt")
    assert fetch.content(both) == TEXT
    assert len(server.asked) == 3


def test_a_file_that_is_gone_is_told(dataset, server):
    server.gone = True
    error = refused(dataset)
    assert error.code == "corpus-unreachable"
    assert "404" in error.detail


def test_a_full_disk_is_no_matter_of_the_network(dataset, server, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pooch.retrieve", full)
    with pytest.raises(OutOfReach, match="cannot be stored") as caught:
        fetch.content(dataset)
    assert caught.value.exit_code == 5


def test_other_content_is_refused_and_not_kept(dataset, server):
    server.content = TEXT[:-1]
    error = refused(dataset)
    assert error.code == "corpus-checksum"
    assert dataset.sha256 in error.detail
    assert "NAS_DATA_DIR" in error.help
    assert fetch.present(dataset) is None
    server.content = TEXT
    assert fetch.content(dataset) == TEXT


def test_a_file_that_cannot_be_normalised_is_refused(dataset, server):
    server.content = b"no zip archive"
    error = refused(dataclasses.replace(dataset, normalise=normalise.tatoeba))
    assert error.code == "corpus-checksum"
    assert list((fetch.cache() / "raw").iterdir()) == []


def test_without_a_server_both_ways_are_told(dataset, server):
    gone = dataclasses.replace(dataset, urls=("http://127.0.0.1:9/text.txt",))
    error = refused(gone)
    assert error.code == "corpus-unreachable"
    assert "network" in error.help
    assert "NAS_DATA_DIR" in error.help


def test_progress_counts_to_the_end(dataset, server):
    told = []
    fetch.fetch(dataset, lambda *fact: told.append(fact))
    assert told[-1] == ("text.txt", len(TEXT), len(TEXT))
    assert [here for _, here, _ in told] == sorted(here for _, here, _ in told)


def test_a_cache_that_cannot_be_written_is_told(dataset, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutOfReach) as caught:
        fetch.content(dataset)
    assert caught.value.code == "cache"
    assert "NAS_CACHE" in caught.value.help


@pytest.mark.skipif(not HERE, reason="NAS_DATA_DIR names no folder with data sets")
@pytest.mark.parametrize("name", catalogue.DATASETS)
def test_the_data_sets_at_hand_are_the_published_ones(name):
    assert fetch.content(catalogue.DATASETS[name])


def test_every_url_is_pinned():
    for known in catalogue.DATASETS.values():
        assert known.urls
        for url in known.urls:
            assert url.startswith("https://")
            assert "master" not in url
            assert "main/" not in url
