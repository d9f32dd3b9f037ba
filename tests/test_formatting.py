"""How numbers, spreads, durations and moments are written."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.formatting import ABSENT, duration, fixed, moment, number, percent, plus_minus, spread, with_half


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (-0.0, "0"),
        (12, "12"),
        (12.0, "12"),
        (0.812, "0.8120"),
        (0.81234, "0.8123"),
        (-0.81234, "-0.8123"),
        (12.345, "12.35"),
        (999.94, "999.9"),
        (999.96, "1,000"),
        (1000.4, "1,000"),
        (1234.5, "1,234"),
        (1204512.4, "1,204,512"),
        (0.001, "0.001000"),
        (0.0003, "0.0003"),
        (0.000123456, "0.0001235"),
        (1.25e-05, "1.25e-05"),
        (1e15, "1e+15"),
        (-2.5e300, "-2.5e+300"),
        (None, ABSENT),
        (math.nan, ABSENT),
        (math.inf, ABSENT),
    ],
)
def test_numbers(value, written):
    assert number(value) == written


@given(st.floats(-1e300, 1e300))
def test_a_number_keeps_its_value_to_four_digits_and_is_short(value):
    written = number(value)
    assert float(written.replace(",", "")) == pytest.approx(value, rel=5.1e-4, abs=1e-300)
    assert len(written) <= 20


def test_columns_have_the_decimals_that_they_ask_for():
    assert [fixed(v, 2) for v in (0.5, 1, None, math.nan)] == ["0.50", "1.00", ABSENT, ABSENT]
    assert [percent(v) for v in (0.25, 1, 0.006, None)] == ["25 %", "100 %", "1 %", ABSENT]
    assert percent(0.1234, 1) == "12.3 %"


@pytest.mark.parametrize(
    ("half", "written"), [(0.0124, "±0.012"), (0.05, "±0.050"), (5.0, "±5.0"), (123.0, "±120"), (0.0, "±0")]
)
def test_half_an_interval_has_two_digits(half, written):
    assert plus_minus(half) == written


def test_a_number_has_the_decimals_of_its_interval():
    assert with_half(0.020731, 0.0055) == "0.0207 ±0.0055"
    assert with_half(1234.5, 120.0) == "1,234 ±120"
    assert with_half(0.03, None) == with_half(0.03, 0.0) == "0.03000"


def test_a_spread_goes_from_the_tenth_to_the_ninetieth_percentile():
    assert spread({"prefill_ms": 0.8, "prefill_ms_p10": 0.7, "prefill_ms_p90": 12.0}, "prefill_ms") == "0.7000–12"
    assert spread({"params": 5.0}, "params") == ""


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (0.34, "0.3 s"),
        (8.2, "8.2 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (60, "1 min"),
        (72, "1 min 12 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (7500, "2 h 5 min"),
        (86400 * 3 + 3700, "3 d 1 h"),
        (86400 * 1234, "1,234 d"),
        (None, ABSENT),
        (math.nan, ABSENT),
    ],
)
def test_durations(seconds, written):
    assert duration(seconds) == written


def test_moments_are_the_same_on_every_machine(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    assert moment(1795933890.0) == "2026-11-29 06:31 UTC"
