"""Replays of small tables: what counts as a training, what samplers are told, and that only the seeds decide."""

import json
import math
import sys
from dataclasses import fields, replace
from multiprocessing import active_children
from types import SimpleNamespace

import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from nas.bench import samplers
from nas.bench.samplers import SAMPLERS, compare, parse_samplers, points, replay
from nas.bench.table_input import open_table
from nas.bench.tables import Table
from nas.errors import UsageError

pytestmark = pytest.mark.slow
GAPS = "x,y,error,latency,seconds\n" + "".join(
    f"{x},{y},{10 - x - y + noise},{x + 2 * y},{x + 1}\n"
    for x in range(6)
    for y in "01"
    if (x, y) not in ((2, "1"), (5, "0"))
    for noise in (0, 0.5)
    for y in [int(y)]
)
"""Two of twelve configurations are missing; each of the others was trained twice."""
OPTIONS = ("--params", "x,y", "--objectives", "error:min,latency:min:cheap")


@pytest.fixture
def path(tmp_path):
    (tmp_path / "gaps.csv").write_text(GAPS, encoding="utf-8")
    return tmp_path / "gaps.csv"


@pytest.fixture
def table(path) -> Table:
    return open_table(path, None, "x,y", "error:min,latency:min:cheap", "seconds")


@pytest.fixture
def nas(monkeypatch, capsys):
    """`nas bench samplers` as from a shell."""
    from nas.cli.__main__ import main

    def run(*arguments: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["nas", "bench", "samplers", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code or 0, out=captured.out, err=captured.err)

    return run


class Told(RandomSampler):
    """Draws at random, or always proposes `always`, and keeps what it is told."""

    def __init__(self, seed: int, always: dict | None = None) -> None:
        super().__init__(seed=seed)
        self.always, self.told = always, []

    def sample_independent(self, study, trial, name, distribution):
        drawn = super().sample_independent(study, trial, name, distribution)
        return self.always[name] if self.always else drawn

    def after_trial(self, study, trial, state, values):
        self.told.append((dict(trial.params), dict(trial.constraints), state, values))


@pytest.fixture
def told(monkeypatch):
    """Puts a `Told` in the place of `random`, and returns it."""

    def put(seed: int = 0, always: dict | None = None) -> Told:
        sampler = Told(seed, always)
        monkeypatch.setitem(SAMPLERS, "random", lambda table, seed: sampler)
        return sampler

    return put


def test_points_double_from_25_up_to_the_trainings():
    assert [points(n) for n in (1, 25, 26, 100, 120)] == [(1,), (25,), (25, 26), (25, 50, 100), (25, 50, 100, 120)]


def test_a_configuration_that_the_table_lacks_is_told_infeasible_and_costs_nothing(table, told):
    sampler = told()
    run = replay(table, "random", seed=3, trials=40)
    absent = [told for told in sampler.told if table.find(told[0]) is None]
    assert run.infeasible == len(absent) > 0
    assert all(state is TrialState.PRUNED and values is None for _, _, state, values in absent)
    assert all(any(v > 0 for v in constraints.values()) for _, constraints, _, _ in absent)
    trained = [told for told in sampler.told if table.find(told[0]) is not None]
    assert run.trained == len(trained) == 40
    assert run.distinct == len({tuple(params.values()) for params, *_ in trained})
    assert all(state is TrialState.COMPLETE and not constraints for _, constraints, state, _ in trained)
    assert run.costs[-1] == sum(params["x"] + 1 for params, *_ in trained)
    for params, _, _, (error, latency) in trained:
        assert error - (10 - params["x"] - params["y"]) in (0, 0.5)
        assert latency == params["x"] + 2 * params["y"]


def test_all_trained_is_a_ratio_of_1(table):
    run = replay(table, "random", seed=0, trials=200)
    assert (run.distinct, run.ratios[-1]) == (10, 1)
    assert sorted(run.ratios) == list(run.ratios)
    assert len(run.ratios) == len(points(200))


def test_a_configuration_proposed_again_is_trained_and_drawn_again(table, told):
    sampler = told(always={"x": 1, "y": 0})
    run = replay(table, "random", seed=0, trials=30)
    assert (run.trained, run.distinct, run.costs) == (30, 1, (50, 60))
    assert {values[0] for *_, values in sampler.told} == {9, 9.5}


def test_one_seed_has_the_same_noise_for_every_sampler(table, told):
    (first := told(always={"x": 1, "y": 0}), replay(table, "random", seed=5, trials=20))
    (again := told(always={"x": 1, "y": 0}, seed=1), replay(table, "random", seed=5, trials=20))
    (other := told(always={"x": 1, "y": 0}), replay(table, "random", seed=6, trials=20))
    assert first.told == again.told != other.told


def test_proposing_what_is_not_there_comes_to_an_end(table, told):
    told(always={"x": 2, "y": 1})
    run = replay(table, "random", seed=0, trials=30)
    assert (run.trained, run.infeasible, run.ratios, run.costs) == (0, 20 * 30, (0, 0), (0, 0))


def test_goals_are_told_as_they_are(path, told):
    sampler = told()
    study = []
    sampler.before_trial = lambda s, trial: study.append(s)
    replay(open_table(path, None, "x,y", "error:max,latency:min", None), "random", seed=0, trials=2)
    assert [direction.name for direction in study[0].directions] == ["MAXIMIZE", "MINIMIZE"]


@pytest.mark.parametrize("sampler", ["pareto", "gp", "tpe", "nsga2", "random"])
def test_a_replay_is_decided_by_its_seed(path, sampler):
    path.write_text(GAPS + "2,1,7,4,3\n5,0,5,5,6\n", encoding="utf-8")  # in gaps, gp gets stuck for minutes
    table = open_table(path, None, "x,y", "error:min,latency:min", None)
    runs = [replay(table, sampler, seed, trials=12) for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert runs[0].trained == 12


def test_the_pareto_sampler_gets_the_same_space_and_the_cheap_columns(table, monkeypatch):
    given = {}

    def spy(space, *, cheap, seed):
        given.update(space=space, cheap=cheap, seed=seed)
        return RandomSampler(seed=seed)

    monkeypatch.setattr("nas.samplers.pareto_sampler.ParetoSampler", spy)
    stand_in = replay(table, "random", seed=4, trials=10)
    assert replay(table, "pareto", seed=4, trials=10) == replace(stand_in, sampler="pareto")
    assert (given["seed"], set(given["cheap"]), given["space"]) == (4, {1}, table.suggest)
    assert given["cheap"][1]({"x": 3, "y": 1}) == 5
    assert math.isnan(given["cheap"][1]({"x": 2, "y": 1}))


def test_json_holds_every_point_of_every_sampler_and_does_not_depend_on_jobs(nas, path, monkeypatch):
    line = (path, *OPTIONS, "--samplers", "tpe, random,nsga2", "--trials", 30, "--seeds", 2, "--json")
    two = nas(*line, "--jobs", 2, "--cost", "seconds")
    monkeypatch.setattr(samplers, "side_by_side", lambda work, tasks, jobs: ((task, work(task)) for task in tasks))
    one = nas(*line, "--jobs", 1, "--cost", "seconds")
    assert (one.code, one.out) == (0, two.out)
    told = json.loads(one.out)
    assert (told["v"], told["type"], told["table"], told["cost"]) == (1, "result", str(path), "seconds")
    assert (told["configurations"], told["space_size"], told["rows"]) == (10, 12, 20)
    assert told["objectives"][1] == {"column": "latency", "goal": "min", "cheap": True}
    assert list(told["samplers"]) == ["tpe", "random", "nsga2"]
    for name, at in told["samplers"].items():
        assert list(at) == ["25", "30"]
        runs = [run for run in told["runs"] if run["sampler"] == name]
        assert [run["seed"] for run in runs] == [0, 1]
        for i, spread in enumerate(at.values()):
            assert set(spread) == {"mean", "std", "min", "cost"}
            ratios = [run["ratios"][i] for run in runs]
            assert (spread["min"], spread["mean"]) == (min(ratios), pytest.approx(sum(ratios) / 2))
            assert spread["cost"]["mean"] == pytest.approx(sum(run["costs"][i] for run in runs) / 2)
        assert told["infeasible"][name] == pytest.approx(sum(run["infeasible"] for run in runs) / 2)
        assert (told["cut_short"][name], told["trials"], told["seeds"]) == (0, 30, 2)
    assert one.err.count("at 30") == 6
    assert "[6/6]" in one.err


@pytest.mark.usefixtures("parts_in_this_process")
def test_prints_a_table_and_who_was_cut_short(nas, path, told):
    told(always={"x": 2, "y": 1})
    ran = nas(path, *OPTIONS, "--samplers", "random", "--trials", 2, "--seeds", 1)
    assert ran.code == 0
    assert "random: 1 of 1 runs ended early" in ran.err
    title, share, _, heads, *rows = ran.out.splitlines()
    assert title == f"{path}: 10 of 12 configurations have results"
    assert share.endswith("(seeds: 1)")
    assert heads.split() == ["trainings", "2", "distinct", "infeasible"]
    assert [row.split() for row in rows] == [["random", "0.0000", "0", "40"], ["±", "0.0000"]]


@pytest.mark.usefixtures("parts_in_this_process")
def test_costs_stand_in_the_table(nas, path):
    ran = nas(path, *OPTIONS, "--samplers", "random", "--trials", 30, "--seeds", 2, "--cost", "seconds")
    assert "infeasible" in ran.out
    assert [row.split()[0] for row in ran.out.splitlines()[3:]] == ["trainings", "random", "±", "seconds"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--samplers", "tpe,ramdom"], ["unknown sampler 'ramdom'", "did you mean 'random'?"]),
        (["--samplers", ""], ["unknown sampler ''"]),
        (["--trials", "0"], ["--trials"]),
        (["--seeds", "0"], ["--seeds"]),
        (["--jobs", "0"], ["--jobs"]),
        (["--cost", "second"], ["no column 'second'", "did you mean 'seconds'?"]),
        (["--table", "nasbench201:cifar10"], ["got both"]),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(nas, path, arguments, parts):
    ran = nas(path, *OPTIONS, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert all(part in ran.err for part in parts), ran.err
    assert "seed 0" not in ran.err


def test_samplers_are_named_once_each():
    assert parse_samplers("tpe, random,tpe") == ("tpe", "random")
    with pytest.raises(UsageError, match="unknown sampler"):
        parse_samplers("tpe,")


class Broken(Table):
    """A table over which every sampler fails, in whatever process."""

    def suggest(self, trial):
        raise RuntimeError("planted")


def test_a_sampler_that_fails_ends_the_bench_and_its_processes(table):
    broken, told = Broken(**{field.name: getattr(table, field.name) for field in fields(table)}), []
    with pytest.raises(RuntimeError, match="planted"):
        compare(broken, ["random", "tpe"], seeds=2, trials=3, jobs=2, tell=told.append)
    assert (told, active_children()) == ([], [])
