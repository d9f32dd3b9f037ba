"""Bounds counted on a table in closed form."""

import pytest

from nas.bench.skip_bounds import Tally, compare, replay
from nas.bench.table_input import open_table

ROWS = [(a, b, c, 10 + a * a + 2 * b + c, 1 + b + (3 - a) * c) for a in range(4) for b in range(4) for c in range(3)]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_text("a,b,c,error,latency\n" + "\n".join(",".join(map(str, row)) for row in ROWS), encoding="utf-8")
    return open_table(path, None, "a,b,c", "error:min,latency:min:cheap", None)


@pytest.mark.slow
def test_each_bound_is_held_against_its_training_and_the_same_seed_gives_the_same_counts(table):
    earlier, today = map(Tally.of, replay(table, 0, 12))
    assert earlier.bounds == today.bounds == 4
    assert today.wrong <= earlier.wrong
    assert today.skipped <= earlier.skipped
    assert (earlier, today) == tuple(map(Tally.of, replay(table, 0, 12)))


def test_counts_are_told_in_a_line():
    told = str(Tally(50, 1, 4, 0))
    assert told == "1 of 50 bounds wrong (2.00 %), 4 would be skipped, 0 of these wrongly"


@pytest.mark.soak
def test_the_counts_of_all_seeds_are_added(table):
    told = compare([table], 2, 12, 1, lambda line: None)
    assert told["all"]["today"]["bounds"] == 8
