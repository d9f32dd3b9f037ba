"""Short trainings that rank as long ones: the figures, the larger forms, what is kept, and runs as small as can be."""

import json
import math
from functools import partial

import numpy as np
import pytest
from scipy.stats import spearmanr

from nas.architecture import Architecture
from nas.bench import growth, ranking
from nas.bench.grown import grow
from nas.bench.kept_trainings import KeptTrainings, drawn, of_study, quality_of
from nas.bench.rank_correlation import regret, spearman
from nas.bench.ranking import Settings, parse_factors
from nas.bench.reference import parameters
from nas.errors import Conflict, UsageError
from nas.results import Objective, State, StudyRecord, TrialResult
from nas.settings import study_file
from nas.tasks import open_task
from tests.documented import keys_of_json

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("parts_in_this_process")]
STUDY = """
name = "tiny"
task = {{ corpus = "{corpus}", context = 8 }}
train = {{ steps = 4, batch = 2, evaluation_tokens = 64, rungs = [0.5, 1.0] }}
objectives = [{{ metric = "weights_mib" }}, {{ metric = "val_loss" }}]
resources = {{ device = "cpu" }}
[space]
depth = [1, 2]
hidden = [16, 24]
attention = [{{ kind = "softmax", heads = [1, 2, 4], kv_heads = [1, "all"] }}]
"""


@pytest.fixture
def path(tmp_path):
    corpus = tmp_path / "fox.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    made = tmp_path / "tiny.toml"
    made.write_text(STUDY.format(corpus=corpus), encoding="utf-8")
    return made


@pytest.fixture
def file(path):
    return study_file.load(path)


# Correlations


def test_the_correlation_is_spearman_s_and_its_interval_comes_from_the_same_architectures():
    generator = np.random.default_rng(1)
    x = generator.normal(size=30)
    y, z = (x + generator.normal(size=30) * noise for noise in (0.5, 3.0))
    found = spearman([(x.tolist(), y.tolist())])
    assert found["rho"] == pytest.approx(spearmanr(x, y).statistic)
    assert -1 <= found["low"] < found["rho"] < found["high"] <= 1
    both = spearman([(x.tolist(), y.tolist()), (x.tolist(), z.tolist())])
    assert both["rho"] == pytest.approx((spearmanr(x, y).statistic + spearmanr(x, z).statistic) / 2)
    assert spearman([(x.tolist(), y.tolist())]) == found


def test_the_interval_covers_the_true_correlation():
    """Of two normal columns with Pearson's r the true Spearman is 6/π · asin(r/2)."""
    generator, covered = np.random.default_rng(0), 0
    for _ in range(60):
        x, noise = generator.normal(size=(2, 24))
        found = spearman([(x.tolist(), (0.8 * x + 0.6 * noise).tolist())])
        covered += found["low"] <= 6 / math.pi * math.asin(0.4) <= found["high"]
    assert covered >= 50


def test_ties_share_ranks_infinity_is_last_and_a_constant_side_has_none():
    assert spearman([([1, 2, 3, math.inf], [2, 3, 4, 9])])["rho"] == pytest.approx(1)
    tied = [1, 1, 2, 3], [1, 2, 2, 5]
    assert spearman([tied])["rho"] == pytest.approx(spearmanr(*tied).statistic)
    assert spearman([([1, 1, 1, 1], [1, 2, 3, 4])]) == {"rho": None, "low": None, "high": None}
    assert spearman([([1, 2], [1, 2])])["rho"] is None


def test_regret_is_what_the_short_training_s_winner_loses():
    assert regret([3, 1, 2], [5.0, 6.5, 6.0]) == 1.5
    assert regret([1, 2], [3.0, math.inf]) == 0


# Larger forms

BLOCKS = [
    {"attention": {"kind": "softmax", "heads": 4, "kv_heads": 2}, "feed_forward": {"kind": "gelu"}},
    {"attention": {"kind": "window", "heads": 2, "kv_heads": 1, "window": 8}},
    {"attention": {"kind": "lstm"}, "feed_forward": {"kind": "none"}},
]


@pytest.mark.parametrize("times", [4, 16])
def test_a_larger_form_has_about_so_many_times_the_parameters_and_keeps_its_order_and_proportions(file, times):
    small = Architecture.model_validate({"hidden": 64, "blocks": BLOCKS})
    count = partial(parameters, task=open_task(file.task))
    large = grow(small, times, count)
    assert count(large) / count(small) == pytest.approx(times, rel=0.15)
    assert (large.hidden % 8, large.hidden > 64, large.depth > 3) == (0, True, True)
    kinds = [block.attention.kind for block in large.blocks]
    assert kinds == sorted(kinds, key=["softmax", "window", "lstm"].index)
    for block in large.blocks:
        kind = block.attention
        if kind.kind == "softmax":
            assert kind.kv_heads * 2 == kind.heads
        elif kind.kind == "window":
            assert (kind.kv_heads, kind.window) == (1, 8)
        if kind.kind != "lstm":
            assert large.hidden / kind.heads == pytest.approx(16 if kind.kind == "softmax" else 32, rel=0.5)


def test_heads_keep_their_size_where_a_width_allows_it(file):
    small = Architecture.model_validate({"hidden": 64, "blocks": [{"attention": {"kind": "softmax", "heads": 4}}]})
    large = grow(small, 4, partial(parameters, task=open_task(file.task)))
    assert (large.hidden, large.blocks[0].attention.heads, large.depth) == (96, 6, 2)


def test_encoders_and_recurrent_models_grow_too(file):
    count = partial(parameters, task=open_task(file.task))
    lstm = {"attention": {"kind": "lstm"}, "feed_forward": {"kind": "none"}}
    small = Architecture.model_validate({"family": "recurrent", "hidden": 32, "blocks": [lstm]})
    large = grow(small, 4, count)
    assert (large.family, large.depth) == ("recurrent", 2)
    assert large.hidden > 32


# What is trained


def test_architectures_are_distinct_and_fewer_are_the_first_of_more(file):
    six = drawn(file, 6)
    assert len({candidate.key for candidate in six}) == 6
    assert drawn(file, 3) == six[:3]
    with pytest.raises(UsageError, match="has 20 architectures, and 50 are wanted"):
        drawn(file, 50)


def test_a_study_gives_its_trials_evenly_from_best_to_worst():
    def trial(number, loss, state=State.COMPLETE):
        architecture = {"hidden": 8 * (number + 1), "blocks": [{"attention": {"kind": "softmax"}}]}
        return TrialResult(number, state, f"{number}", architecture, metrics={"val_loss": loss})

    losses = [3.0, 1.0, 2.0, 5.0, 4.0]
    rows = [*(trial(i, loss) for i, loss in enumerate(losses)), trial(5, 0.1, State.PRUNED)]
    record = StudyRecord("s", (Objective("val_loss", "min"),), (), tuple(rows), {}, {}, {}, 5, 0.0)
    picked = of_study(record, 3, record.objectives[0])
    assert [candidate.architecture.hidden for candidate in picked] == [16, 8, 32]
    assert len(of_study(record, 9, record.objectives[0])) == 5
    with pytest.raises(UsageError, match="at least 3"):
        of_study(StudyRecord("s", record.objectives, (), tuple(rows[:2]), {}, {}, {}, 5, 0.0), 3, record.objectives[0])


def test_the_quality_is_the_first_objective_that_training_decides(path, file):
    assert quality_of(file).metric == "val_loss"
    with pytest.raises(UsageError, match="no objective"):
        quality_of(study_file.load(path, ['objectives=[{metric="weights_mib"}]']))


@pytest.mark.parametrize("text", ["", "x", "0x", "-1x", "1x,infx"])
def test_lengths_that_cannot_be_are_usage_errors(text):
    with pytest.raises(UsageError, match="lengths"):
        parse_factors(text)


def test_a_small_ranking_is_written_whole_and_nothing_is_trained_twice(file, tmp_path):
    assert parse_factors("2x, 1x") == (1, 2)
    settings, said, folder = Settings(file, drawn(file, 4), 2, (1, 2)), list[str](), tmp_path / "ranking"
    result = ranking.compare(settings, folder, 1, said.append)
    assert set(result) == keys_of_json("nas bench ranking")
    assert [point["name"] for point in result["points"]] == ["2 of 4", "4", "8"]
    pairs = [(row["short"], row["long"]) for row in result["correlations"]]
    assert pairs == [("2 of 4", "2 of 4"), ("2 of 4", "4"), ("2 of 4", "8"), ("4", "4"), ("4", "8"), ("8", "8")]
    assert all((row["mean"] is None) == (row["short"] == row["long"]) for row in result["correlations"])
    assert len(result["rows"]) == len(said) == 16
    assert {p.name for p in folder.iterdir()} == {"trainings.json", "ranking.json", "ranking.svg", "ranking.png"}
    again = list[str]()
    assert ranking.compare(settings, folder, 1, again.append) == result
    assert again == ["16 of 16 trainings are there already"]


def test_longer_trainings_may_have_fewer_seeds(file, tmp_path):
    settings = Settings(file, drawn(file, 3), 2, (1, 2, 3), long_seeds=1)
    result = ranking.compare(settings, tmp_path, 1, lambda what: None)
    assert [(row["steps"], row["seed"]) for row in result["rows"][::3]] == [(4, 0), (4, 1), (8, 0), (12, 0)]
    across = {(row["short"], row["long"]): row["across"] for row in result["correlations"]}
    assert across["4", "8"] is not None
    assert across["8", "12"] is None


def test_a_training_without_the_rungs_that_are_asked_for_is_made_again(file, tmp_path):
    candidates = drawn(file, 3)
    ranking.compare(Settings(file, candidates, 1, (0.5, 1)), tmp_path, 1, lambda what: None)
    said = list[str]()
    result = ranking.compare(Settings(file, candidates, 1, (1, 2)), tmp_path, 1, said.append)
    assert [point["best"] is not None for point in result["points"]] == [True] * 3
    assert "there already" not in said[0]


def test_an_interrupted_run_goes_on_and_other_settings_are_refused(path, file, tmp_path):
    class Stopped(Exception):
        pass

    def stop_after_two(what):
        said.append(what)
        if len(said) == 2:
            raise Stopped

    said, settings = list[str](), Settings(file, drawn(file, 3), 1, (1,))
    with pytest.raises(Stopped):
        ranking.compare(settings, tmp_path, 1, stop_after_two)
    kept = json.loads((tmp_path / "trainings.json").read_text(encoding="utf-8"))["rows"]
    assert len(kept) == 2
    with pytest.raises(Conflict) as caught:
        KeptTrainings(tmp_path, study_file.load(path, ["train.batch=3"]))
    assert caught.value.where.endswith("trainings.json: train")
    again = list[str]()
    result = ranking.compare(settings, tmp_path, 1, again.append)
    assert again[0] == "2 of 3 trainings are there already"
    assert [row for row in result["rows"] if row in kept] == kept
    (tmp_path / "trainings.json").write_text("[]", encoding="utf-8")
    with pytest.raises(Conflict, match="no benchmark wrote"):
        ranking.claim(tmp_path)


def test_a_training_that_diverges_ranks_last_and_is_counted(path, tmp_path):
    file = study_file.load(path, ["train.learning_rate=1000", "train.optimiser=adamw"])
    result = ranking.compare(Settings(file, drawn(file, 3), 1, (1,)), tmp_path, 1, lambda what: None)
    assert result["failed"] == 3
    assert result["points"][-1]["best"] is None
    json.dumps(result, allow_nan=False)


def test_a_small_growth_is_written_whole(file, tmp_path):
    settings = growth.Settings(file, drawn(file, 3), times=4, seeds=2, factor=0.5)
    said, folder = list[str](), tmp_path / "growth"
    result = growth.compare(settings, folder, 1, said.append)
    assert set(result) == keys_of_json("nas bench growth")
    assert result["steps"] == {"small": 4, "grown": 2}
    assert len(result["pairs"]) == 3
    assert all(3 < pair["grown_params"] / pair["small_params"] < 5.5 for pair in result["pairs"])
    assert 1 <= result["winner"]["place"] <= 3
    assert len(result["rows"]) == len(said) == 12
    assert {p.name for p in folder.iterdir()} == {"trainings.json", "growth.json", "growth.svg", "growth.png"}
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(("command", "count"), [("ranking", 6), ("growth", 6)])
def test_the_commands_print_a_table(path, tmp_path, monkeypatch, capsys, command, count):
    import sys

    from nas.cli.__main__ import main

    line = ["nas", "bench", command, str(path), "--architectures", "3", "--seeds", "1", "--steps", "1x", "--jobs", "1"]
    monkeypatch.setattr(sys, "argv", [*line, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert (ended.value.code or 0) == 0, printed.err
    assert "size alone" in printed.out
    assert str(tmp_path / "out") in printed.out
