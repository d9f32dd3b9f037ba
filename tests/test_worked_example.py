"""The page that does attention by hand: every line of it is run, and prints what stands there."""

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "worked_example.md"


def test_the_page_prints_what_it_says():
    outcome = doctest.testfile(str(PAGE), module_relative=False)
    assert outcome.failed == 0
    assert outcome.attempted > 15


def test_weights_of_a_softmax_sum_to_one_and_the_misprint_cannot_be():
    text = PAGE.read_text(encoding="utf-8")
    assert "[0.758, 0.5697, 0.1026]" in text
    assert "[.76, .24, 0]" in text
