"""Paired differences, beside a bootstrap written out."""

import numpy as np
import pytest

from nas.paired import difference


def test_the_interval_is_that_of_examples_drawn_again_and_again():
    generator = np.random.default_rng(3)
    ours, theirs = generator.random(80) < 0.8, generator.random(80) < 0.6
    drawn = generator.integers(80, size=(20_000, 80))
    means = [ours[row].mean() - theirs[row].mean() for row in drawn]
    found = difference(ours.astype(float), theirs.astype(float))
    assert found.difference == pytest.approx(ours.mean() - theirs.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))), abs=0.015)


def test_pairs_of_like_examples_tell_more_than_their_spread():
    scores = np.arange(100.0)
    found = difference(scores + 1, scores)
    assert (found.low, found.difference, found.high) == pytest.approx((1.0, 1.0, 1.0))


def test_one_example_alone_has_no_spread():
    assert (found := difference([1.0], [0.0])).low == found.high == 1.0
