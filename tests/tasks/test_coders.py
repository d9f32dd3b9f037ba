"""Texts become tokens and come back, also after they were saved."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import DataError
from nas.tasks.coders import Characters, Subwords, Words, restored

TEXTS = ["Mary went to the hall.", "John is in the hall, with a lamp.", "naïve café — 北京 🥊"] * 4
SUBWORDS = Subwords.learned(TEXTS, 320, ("<pad>", "<start>"))
CODERS = [Characters(["a", "b", " ", "<mask>"]), Words(["-", "k1", "v2"]), SUBWORDS]


@pytest.mark.slow
@given(st.text())
def test_subwords_know_every_text(text):
    assert SUBWORDS.decode(SUBWORDS.encode(text)) == text
    assert min(SUBWORDS.encode(text), default=2) >= 2


def test_a_tasks_own_symbols_are_never_made_of_text_and_left_out_of_it():
    assert 0 not in SUBWORDS.encode("the <pad> hall")
    assert SUBWORDS.decode([0, *SUBWORDS.encode("hall"), 1]) == "hall"


def test_places_are_those_of_the_words_in_the_text():
    text = "John is in the hall — naïve"
    tokens, places = SUBWORDS.encode_with_places(text)
    found = [text[start:end] for start, end in places]
    assert tokens == SUBWORDS.encode(text)
    assert len(found) == len(tokens)
    assert "hall" in found
    assert "John" in found


def test_what_is_often_together_becomes_one_symbol():
    assert len(SUBWORDS.encode(" the hall")) == 2
    assert len(SUBWORDS.symbols) == len(set(SUBWORDS.symbols)) <= 320


@pytest.mark.parametrize("text", ["a" * 1000, "北京" * 500, " " * 1000, "a" * 200 + " " + "b" * 200])
def test_words_of_any_length_come_back(text):
    coder = Subwords.learned([text], 300, ())
    tokens, places = coder.encode_with_places(text)
    assert coder.decode(tokens) == text
    assert max(len(coder.decode([token])) for token in tokens) <= 256
    assert places[-1][1] == len(text)


def test_tokens_are_shown_as_they_read():
    told = [SUBWORDS.shown(token) for token in [0, *SUBWORDS.encode("is in the hall")]]
    assert told[0] == "<pad>"
    assert "".join(told[1:]) == "is in the hall"
    assert all(SUBWORDS.shown(token) for token in range(len(SUBWORDS.symbols)))


def test_learning_repeats_exactly():
    assert Subwords.learned(TEXTS, 320, ("<pad>", "<start>")).saved() == SUBWORDS.saved()


def test_all_texts_at_once_are_each_by_itself():
    assert SUBWORDS.encode_all(TEXTS) == [SUBWORDS.encode(text) for text in TEXTS]


@pytest.mark.parametrize("coder", CODERS, ids=lambda coder: coder.kind)
def test_what_was_saved_codes_alike(coder):
    again = restored(json.loads(json.dumps(coder.saved())))
    assert type(again) is type(coder)
    assert again.symbols == coder.symbols
    text = {"characters": "ab a", "words": "k1 - v2", "subwords": TEXTS[2]}[coder.kind]
    assert again.encode(text) == coder.encode(text)
    assert again.decode(again.encode(text)) == text


def test_what_is_unknown_is_told_with_its_place():
    with pytest.raises(DataError, match="'c'") as caught:
        CODERS[0].encode("abc")
    assert caught.value.where == "character 2 of the text"
    with pytest.raises(DataError, match="'k9'") as caught:
        CODERS[1].encode("k1 k9")
    assert caught.value.where == "symbol 2 of the text"
