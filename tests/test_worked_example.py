"""The page that does attention by hand: every line of it is run, and prints what stands there."""

import doctest
import math
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "worked_example.md"


def test_the_page_prints_what_it_says():
    outcome = doctest.testfile(str(PAGE), module_relative=False)
    assert outcome.failed == 0
    assert outcome.attempted > 15


def test_the_misprint_cannot_be():
    """Worked out without our code: shares of a softmax sum to one, so that no coordinate of the inputs vanishes."""
    inputs = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1)]
    sizes = [math.exp(x - z) for x, _, z in inputs]
    output = [sum(size * v[i] for size, v in zip(sizes, inputs, strict=True)) / sum(sizes) for i in range(3)]
    assert [round(value, 4) for value in output] == [0.758, 0.5697, 0.1026]
    assert f"{sum(sizes):.4f}" in PAGE.read_text(encoding="utf-8")
