"""Sparse tables: proposals are rows, or count as the nearest row; dense tables are served as before."""

import json
import random
import sys

import pytest
from optuna.samplers import RandomSampler

from nas.bench.samplers import SAMPLERS, replay
from nas.bench.sparse_rows import SparseRows, is_sparse
from nas.bench.table_input import open_table, sampled
from nas.bench.tables import Column, Table, build
from nas.samplers.candidates import RandomChooser, draw_candidate, neighbour, replay_candidate
from nas.samplers.known_choices import KnownChoices

PARAMS = [f"p{i}" for i in range(18)]


def eighteen(rows: int = 60) -> Table:
    """A table of 18 parameters, of four values each: six choices, six integers, six numbers with gaps."""
    generator = random.Random(0)
    options = [*[list("abcd")] * 6, *[[1, 2, 3, 4]] * 6, *[[0.1, 1.0, 10.0, 100.0]] * 6]
    drawn = [[generator.choice(choices) for choices in options] for _ in range(rows)]
    columns: dict[str, list[object]] = {name: [row[i] for row in drawn] for i, name in enumerate(PARAMS)}
    columns["error"] = [sum(str(cell) in ("a", "1", "0.1") for cell in row) / 18 for row in drawn]
    columns["latency"] = [float(row[6] + row[7]) for row in drawn]
    return build("eighteen", columns, PARAMS, [Column("error", "min"), Column("latency", "min", cheap=True)])


@pytest.fixture(scope="module")
def table() -> Table:
    return eighteen()


def test_distance_counts_choices_that_differ_and_shares_of_ranges():
    columns = {"a": ["x", "y", "y"], "b": [0, 5, 10], "error": [1, 2, 3]}
    rows = SparseRows(build("small", columns, ["a", "b"], [Column("error", "min")]))
    assert rows.rows == [("x", 0), ("y", 5), ("y", 10)]
    assert rows.distances({"a": "x", "b": 10}).tolist() == [1.0, 1.5, 1.0]
    assert rows.distances({"b": 5}).tolist() == [0.5, 0.0, 0.5]
    assert rows.nearest({"a": "y", "b": 6}, ()) == 1
    assert rows.nearest({"a": "y", "b": 6}, {1}) == 2
    assert rows.nearest({"a": "y", "b": 6}, {0, 1, 2}) == 1  # all are trained: the nearest again


def test_the_space_draws_rows_and_their_neighbours_and_finds_them_again(table):
    rows, generator, known = SparseRows(table), random.Random(1), KnownChoices()
    drawn = [draw_candidate(rows.space, RandomChooser(generator, known=known)) for _ in range(200)]
    assert all(table.find(candidate.params) is not None for candidate in drawn)
    assert len({candidate.key for candidate in drawn}) > 40
    assert replay_candidate(rows.space, drawn[0].params).params == drawn[0].params
    near = [neighbour(rows.space, drawn[0], generator, known) for _ in range(100)]
    assert all(table.find(candidate.params) is not None for candidate in near)
    assert sum(candidate.key == drawn[0].key for candidate in near) < 10
    mean = rows.distances(drawn[0].params).mean()
    own = [rows.distances(drawn[0].params)[table.find(candidate.params)] for candidate in near]
    assert sum(own) / len(own) < 0.9 * mean


def test_a_sampler_that_takes_a_space_trains_rows_alone_and_others_the_nearest_ones(table):
    assert is_sparse(table)
    for name in ("pareto", "random"):
        run = replay(table, name, seed=0, trials=12)
        assert (run.trained, run.distinct, run.substituted, run.infeasible) == (12, 12, 0, 0)
    run = replay(table, "nsga2", seed=0, trials=15)
    assert (run.trained, run.distinct, run.substituted, run.infeasible) == (15, 15, 15, 0)


def test_a_proposal_counts_with_the_values_of_the_row_that_was_trained(table, monkeypatch):
    class Told(RandomSampler):
        def after_trial(self, study, trial, state, values):
            told.append((dict(trial.params), tuple(values)))

    told, rows, trained = [], SparseRows(table), []
    monkeypatch.setitem(SAMPLERS, "tpe", lambda table, seed: Told(seed=seed))
    replay(table, "tpe", seed=3, trials=20)
    for params, values in told:
        number = rows.nearest(params, trained)
        trained.append(number)
        assert values == pytest.approx(table.means_CM[number])


def test_random_rows_come_once_each_before_any_comes_again(table):
    configurations = len(table.numbers)
    run = replay(table, "random", seed=0, trials=configurations)
    assert (run.distinct, run.ratios[-1]) == (configurations, 1)
    again = replay(table, "random", seed=0, trials=configurations + 5)
    assert again.trained == configurations + 5


def test_dense_tables_are_served_as_before(tmp_path):
    path = tmp_path / "dense.csv"
    lines = [f"{x},{y},{10 - x - y}" for x in range(6) for y in range(2) if (x, y) != (2, 1)]
    path.write_text("x,y,error\n" + "\n".join(lines), encoding="utf-8")
    table = open_table(path, None, "x,y", "error:min", None)
    assert not is_sparse(table)
    run = replay(table, "random", seed=0, trials=30)
    assert run.infeasible > 0 == run.substituted


def test_a_sample_keeps_all_rows_of_its_configurations():
    columns = {"a": [1, 1, 2, 3, 3, 4], "error": [1, 2, 3, 4, 5, 6]}
    kept = sampled(columns, ["a"], 2)
    assert len(set(kept["a"])) == 2
    assert sampled(columns, ["a"], 2) == kept
    assert sampled(columns, ["a"], 9) == columns
    for a in set(kept["a"]):
        assert [e for key, e in zip(kept["a"], kept["error"], strict=True) if key == a] == [
            e for key, e in zip(columns["a"], columns["error"], strict=True) if key == a
        ]


@pytest.mark.usefixtures("parts_in_this_process")
def test_what_counts_as_another_row_is_told(tmp_path, monkeypatch, capsys):
    from nas.cli.__main__ import main

    table = eighteen()
    path = tmp_path / "eighteen.csv"
    heads = [*PARAMS, "error", "latency"]
    cells = [[*row, *means] for row, means in zip(table.numbers, table.means_CM, strict=True)]
    path.write_text("\n".join(",".join(map(str, line)) for line in [heads, *cells]), encoding="utf-8")
    options = ["--params", ",".join(PARAMS), "--objectives", "error:min,latency:min:cheap", "--sample", "40"]
    run = ["--samplers", "random,nsga2", "--trials", "5", "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", ["nas", "bench", "samplers", str(path), *options, *run])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().out
    assert "40 of" in told
    assert "count as the nearest configuration" in told
    assert "substituted" in told
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--json"])
    with pytest.raises(SystemExit):
        main()
    result = json.loads(capsys.readouterr().out)
    assert result["sparse"] is True
    assert result["substituted"] == {"random": 0, "nsga2": 5}


@pytest.mark.soak
def test_a_table_of_18_parameters_is_searched_through_its_rows(table):
    reached = {name: [replay(table, name, seed, 20).ratios[-1] for seed in range(3)] for name in ("pareto", "random")}
    assert sum(reached["pareto"]) > sum(reached["random"])
