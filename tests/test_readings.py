"""Readings survive their compact form, which is small, and bounded when it is read."""

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import Conflict
from nas.readings import MOST_READINGS, decode, encode, kept


@given(st.lists(st.floats(0, 1e9), max_size=50))
def test_readings_come_back_within_ten_nanoseconds(readings):
    assert decode(encode(readings)) == pytest.approx(readings, abs=5.1e-6, rel=1e-12)


def test_a_reading_takes_about_three_characters():
    readings = list(np.random.default_rng(0).normal(0.4, 0.01, 1000))
    assert len(encode(readings)) < 3.2 * len(readings)


def test_evenly_spaced_rounds_are_kept_where_there_are_too_many():
    rounds = [[float(i), i + 0.5] for i in range(5000)]
    found = decode(kept(rounds))
    assert len(found) <= MOST_READINGS
    assert found[:4] == [0.0, 0.5, 3.0, 3.5]
    assert decode(kept(rounds[:100])) == [reading for readings in rounds[:100] for reading in readings]
    assert decode(kept([])) == []


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize(
    "text",
    [
        *("%", "abcd", packed(b"\x80"), packed(b"\x01"), packed(b"\xff" * 12), packed(bytes(MOST_READINGS + 1))),
        *(packed(bytes(10**8)), encode([1.0, 2.0])[:-4], "A" * 10**6, "é"),
    ],
)
def test_a_damaged_text_is_refused_without_being_unpacked(text):
    with pytest.raises(Conflict, match="damaged"):
        decode(text)
