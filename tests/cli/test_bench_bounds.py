"""Sizes of benchmarks have bounds, and a table that is a pipe is not waited for."""

import os

import pytest


@pytest.mark.parametrize(
    "arguments",
    [
        ("attention", "--contexts", "1000000000"),
        ("attention", "--contexts", "1" * 5000),
        ("attention", "--hidden", "1000000000"),
        ("driver", "--trials", "1000000000000"),
        ("recall", "--seeds", "1000000000000"),
        ("training", "--seeds", "1000000000000"),
        ("threads", "--seconds", "1e300"),
        ("recipes", "pipe.toml", "--recipes", "1,99"),
        ("samplers", "pipe.csv", "--params", "a", "--objectives", "b:min"),
        ("samplers", "pipe.parquet", "--params", "a", "--objectives", "b:min"),
    ],
)
def test_values_beyond_the_bounds_are_usage_errors(nas, arguments):
    os.mkfifo("pipe.csv")
    os.mkfifo("pipe.parquet")
    assert nas("bench", *arguments).code == 2
