"""Answers as whole words of a story; words compared as SQuAD compares them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.tasks.mentions import Candidates, f1, normalised, place_of


@pytest.mark.parametrize(
    ("answer", "story", "place"),
    [
        ("son", "Johnson met his son.", 16),
        ("son", "Johnson met a son-in-law, and the son.", 14),
        ("son", "Johnson alone.", 4),
        ("hall", "hall", 0),
        ("$5", "cost US$5", 7),
        ("attic", "In the hall.", -1),
    ],
)
def test_an_answer_is_taken_where_it_first_stands_as_a_word(answer, story, place):
    assert place_of(answer, story) == place


@pytest.mark.parametrize(
    ("story", "answers", "last"),
    [
        ("to the hall, the hallway", ["hall", "hallway"], "hallway"),
        ("the hallway", ["hall"], ""),
        ("a cat, then a dog, then a caterpillar", ["cat", "dog"], "dog"),
        ("up by 50% in C++, not C", ["50%", "C++"], "C++"),
        ("US$5 or 5 $", ["$5", "5"], "5"),
        ("the big red hall", ["hall", "red hall", "big red"], "hall"),
        ("the red hall", ["red", "red hall"], "red hall"),
        ("snake_case", ["case"], ""),
        ("", ["hall"], ""),
        ("the hall", [], ""),
    ],
)
def test_the_last_candidate_is_a_whole_word(story, answers, last):
    assert Candidates(answers).last_in(story) == last


@given(st.lists(st.text("ab $", max_size=6), max_size=4), st.text("ab $", max_size=20))
def test_the_last_candidate_is_that_of_a_plain_search(answers, story):
    wanted = {answer.strip() for answer in answers} - {""}
    found = [
        (place.start(), answer)
        for answer in wanted
        for place in re.finditer(rf"(?<!\w)(?={re.escape(answer)}(?!\w))", story)
    ]
    assert Candidates(answers).last_in(story) == max(found, default=(-1, ""), key=lambda f: (f[0], len(f[1])))[1]


@pytest.mark.parametrize(
    ("told", "true", "score"),
    [("the Hall.", "hall", 1.0), ("hall garden", "hall", 2 / 3), ("office", "hall", 0.0), ("", "hall", 0.0)],
)
def test_overlap_is_that_of_squad(told, true, score):
    assert f1(told, true) == pytest.approx(score)


def test_answers_are_compared_without_articles_and_punctuation():
    assert normalised("The  Office-Room, a!") == ["officeroom"]
