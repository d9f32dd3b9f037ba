"""A relative corpus starts at the study file's folder, and one of an override at the current folder."""

import pytest

from nas.data.catalogue import DATASETS
from nas.data.text_source import KNOWN
from nas.settings import study_file
from nas.settings.relative_corpus import NAMED

TEXT = """
name = "x"
task = {{ corpus = "{}" }}
space = {{ depth = 1, hidden = 16, attention = [{{ kind = "linear" }}] }}
objectives = [{{ metric = "val_loss" }}]
"""


def test_the_names_are_those_that_are_known():
    assert set(KNOWN) | set(DATASETS) == NAMED


@pytest.mark.parametrize(
    ("corpus", "placed"),
    [
        ("text.txt", "sub/text.txt"),
        ("../text.txt", "sub/../text.txt"),
        ("plain", "sub/plain"),
        ("misspelt", "misspelt"),
        ("tinyshakespeare", "tinyshakespeare"),
        ("/abs/text.txt", "/abs/text.txt"),
        ("~/text.txt", "~/text.txt"),
        ("hf:saved", "hf:sub/saved"),
        ("hf:org/name", "hf:org/name"),
    ],
)
def test_a_corpus_is_found_from_the_file(tmp_path, monkeypatch, corpus, placed):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub" / "saved").mkdir(parents=True)
    for name in ("plain", "tinyshakespeare"):
        (tmp_path / "sub" / name).write_text("text")
    (tmp_path / "sub" / "x.toml").write_text(TEXT.format(corpus))
    assert study_file.load("sub/x.toml").task.corpus == placed


def test_an_override_starts_at_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.toml").write_text(TEXT.format("text.txt"))
    assert study_file.load("sub/x.toml", ["task.corpus=mine.txt"]).task.corpus == "mine.txt"


def test_each_corpus_of_a_list_and_the_tokenizer_are_found_from_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    text = TEXT.replace('corpus = "{}"', 'corpus = ["a.txt", "more/*.txt", "/b.txt"], tokenizer = "t.json"')
    (tmp_path / "sub" / "x.toml").write_text(text.format())
    task = study_file.load("sub/x.toml").task
    assert task.corpus == ("sub/a.txt", "sub/more/*.txt", "/b.txt")
    assert task.tokenizer == "sub/t.json"
