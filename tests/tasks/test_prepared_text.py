"""A text that is prepared in a stream has the tokens that it would have if it were encoded at once."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import Split

from nas.errors import DataError, InvalidStudyFile
from nas.settings.task_settings import TextTask
from nas.tasks import open_task, prepared_text, text_encoders
from nas.tasks.coders import Subwords
from nas.tasks.ngrams import bounded_losses, losses
from nas.tasks.prepared_text import DOCUMENT_END, prepare

WORDS = [
    "the",
    "model",
    "reads",
    "Zwölf",
    "🥊🥊",
    "一二三四五六七八",
    "x1,",
    "\x1c!",
    "\u2003",
    "\t",
    "--",
    "don't",
    "\xa0a",
]


def some_text(seed: int, words: int = 3000) -> str:
    """Words and white space of all kinds, some of them longer than a subword may be."""
    draw = random.Random(seed)
    parts = list[str]()
    for _ in range(words):
        parts.append(draw.choice(WORDS) * draw.choice([1, 1, 1, 2, 40]))
        parts.append(draw.choice([" ", " ", " ", "\n", "  ", "\r\n\r\n", " " * 300, ""]))
    return "".join(parts)


@pytest.fixture(autouse=True)
def _small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    for name, size in {"PIECE": 500, "PIECES_AT_ONCE": 3, "WORDS_AT_ONCE": 1200, "WORDS_KEPT": 60}.items():
        monkeypatch.setattr(text_encoders, name, size)
    monkeypatch.setattr("nas.data.text_stream.PIECE", 777)


@pytest.mark.parametrize("seed", range(6))
def test_subwords_are_those_of_each_split_encoded_at_once(tmp_path: Path, seed: int) -> None:
    text = some_text(seed)
    (tmp_path / "text.txt").write_bytes(text.encode())
    found = prepare(TextTask(corpus=str(tmp_path / "text.txt"), subwords=400))
    whole = Subwords.learned([text[slice(*found.spans["train"])]], 400, ())
    assert found.coder.symbols == whole.symbols
    for split, (start, end) in found.splits.items():
        assert found.tokens[start:end].tolist() == whole.encode(text[slice(*found.spans[split])])


def test_a_text_without_white_space_is_cut_where_its_words_are_too_long(tmp_path: Path) -> None:
    text = some_text(7)
    for white in text_encoders.WHITE:
        text = text.replace(white, "")
    (tmp_path / "text.txt").write_bytes((" " * 700 + text).encode())
    found = prepare(TextTask(corpus=str(tmp_path / "text.txt"), subwords=400))
    for split, (start, end) in found.splits.items():
        read = (" " * 700 + text)[slice(*found.spans[split])]
        assert found.tokens[start:end].tolist() == found.coder.encode(read)


def test_white_space_is_what_the_tokenizers_take_for_it() -> None:
    cut = Split(Regex(r"\s"), "isolated")
    points = [chr(point) for point in range(1, 0x3100)]
    assert {point for point in points if len(cut.pre_tokenize_str(f"a{point}a")) == 3} == set(text_encoders.WHITE)


def test_characters_are_numbered_in_their_order(tmp_path: Path) -> None:
    text = some_text(1)
    (tmp_path / "text.txt").write_bytes(text.encode())
    found = prepare(TextTask(corpus=str(tmp_path / "text.txt")))
    assert found.coder.symbols == sorted(set(text))
    assert found.coder.decode(found.tokens.tolist()) == text
    assert found.tokens.dtype == np.uint16
    assert found.splits == found.spans


def test_documents_end_in_a_symbol_of_their_own(tmp_path: Path) -> None:
    texts = [f"document {n}: {some_text(n, 30)}" for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    for settings in ({}, {"subwords": 300}):
        task = open_task(TextTask(corpus=str(tmp_path / "rows.jsonl"), context=16, **settings))
        end = task.coder.symbols.index(DOCUMENT_END)
        assert int((task.tokens_N == end).sum()) == len(texts) == task.describe()["documents"]
        documents = np.split(task.tokens_N, (task.tokens_N == end).nonzero()[0] + 1)
        told = [task.coder.decode(tokens.tolist()).replace(DOCUMENT_END, "") for tokens in documents]
        assert told == [*texts, ""]
        start, stop = task.describe()["splits"]["val"]
        assert task.bits_per_char("val", 1.0) == pytest.approx(
            (task.splits["val"][1] - task.splits["val"][0]) / (stop - start) / np.log(2)
        )
        assert set(task.floors("val")) == {f"{n}-gram" for n in range(1, 6)}


def test_any_tokenizer_file_cuts_the_text(tmp_path: Path) -> None:
    text = some_text(2)
    (tmp_path / "text.txt").write_bytes(text.encode())
    Subwords.learned([text], 350, ())._tokenizer.save(str(tmp_path / "tokenizer.json"))
    own = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    settings = TextTask(corpus=str(tmp_path / "text.txt"), tokenizer=str(tmp_path / "tokenizer.json"), context=16)
    task = open_task(settings)
    start, end = task.splits["test"]
    assert task.tokens_N[start:end].tolist() == own.encode(text[slice(*task.spans["test"])]).ids
    assert task.vocabulary == own.get_vocab_size()
    masked = open_task(settings.model_copy(update={"kind": "masked_language_modelling"}))
    assert masked.coder.symbols[-1] == "<mask>"
    assert masked.plain == (0, own.get_vocab_size())
    assert masked.coder.decode([masked.vocabulary - 1]) == ""


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some text " * 200)
    for content in ("", "{}", "[" * 3000):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(DataError) as caught:
            prepare(TextTask(corpus=str(tmp_path / "text.txt"), tokenizer=str(tmp_path / "tokenizer.json")))
        assert (caught.value.code, caught.value.where) == ("tokenizer", str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError):
        prepare(TextTask(corpus=str(tmp_path / "text.txt"), tokenizer=str(tmp_path / "missing.json")))
    with pytest.raises((ValueError, InvalidStudyFile), match="keep one of them"):
        TextTask(subwords=300, tokenizer="tokenizer.json")


def test_of_a_long_text_evenly_spaced_parts_are_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = some_text(3)
    (tmp_path / "text.txt").write_bytes(text.encode())
    monkeypatch.setattr(prepared_text, "LEARNED", len(text) // 5)
    task = open_task(TextTask(corpus=str(tmp_path / "text.txt"), subwords=300, context=16))
    learned = task.describe()["learned_from"]
    assert len(text) // 12 < learned < len(text) // 4
    tokens = task.tokens_N[slice(*task.splits["val"])].tolist()
    assert task.coder.decode(tokens) == text[slice(*task.spans["val"])]


def test_another_text_or_setting_is_another_entry(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("some text, " * 2000)
    first = prepare(TextTask(corpus=str(path))).entry.folder
    assert prepare(TextTask(corpus=str(path))).entry.folder == first
    assert prepare(TextTask(corpus=str(path), subwords=300)).entry.folder != first
    path.write_text("Some text, " * 2000)
    changed = prepare(TextTask(corpus=str(path)))
    assert changed.entry.folder != first
    assert "S" in changed.coder.symbols


def test_windows_are_those_of_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.tasks.text.WINDOWS_HELD", 4)
    task = open_task(TextTask(context=16))
    for _ in range(3):
        (read,), wanted = task.batch(torch.Generator().manual_seed(0), 3)
        assert read.dtype == torch.int64
        assert torch.equal(read[:, 1:], wanted[:, :-1])
        assert torch.equal(read, task.batch(torch.Generator().manual_seed(0), 3)[0][0])


def test_floors_of_a_long_text_take_a_bounded_part(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.random.default_rng(0).integers(0, 5, 3000).astype(np.uint16)
    train, val = (0, 2000), (2000, 3000)
    whole = losses(tokens.astype(np.int64), train, val, 5)
    assert bounded_losses(tokens, 0, train, val, 5) == whole
    monkeypatch.setattr("nas.tasks.ngrams.MOST", 1600)
    part = losses(tokens[1200:2200].astype(np.int64), (0, 800), (800, 1000), 5)
    assert bounded_losses(tokens, 0, train, val, 5) == pytest.approx(part)


def test_a_damaged_entry_is_told_with_its_folder(tmp_path: Path) -> None:
    settings = TextTask(context=16)
    folder = prepare(settings).entry.folder
    assert folder
    about = json.loads((folder / "about.json").read_text())
    for damage in ({}, {"edges": 3}, {"coder": {"coder": "subwords"}}, {"plain": [1]}):
        (folder / "about.json").write_text(
            json.dumps({**about, "about": {**about["about"], **damage} if damage else {}})
        )
        with pytest.raises(DataError) as caught:
            prepare(settings)
        assert (caught.value.code, caught.value.where) == ("prepared-text", str(folder))
        assert "nas data clean" in caught.value.help
