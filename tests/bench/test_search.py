"""The benchmark of searches: its figure, what is kept and resumed, and one real comparison."""

import csv
import itertools
import json
import math
import os
import random
import sys
from functools import partial
from pathlib import Path

import pytest

from nas.architecture import Architecture
from nas.bench import launches, search, search_figure, stock
from nas.bench.replay import Curve
from nas.bench.retraining import Shelf, jobs_of
from nas.bench.search import PEERS, ROWS, Settings, compare
from nas.cli.__main__ import main
from nas.errors import Conflict, NasError, NothingFeasible, UsageError
from nas.settings import study_file
from nas.space.architecture_space import Space
from nas.space.choosing import RandomChooser
from nas.tasks import open_task
from tests.documented import keys_of_json

pytestmark = pytest.mark.slow
STUDY = """
name = "tiny"
task = {{ corpus = "{corpus}", context = 8 }}
train = {{ steps = 4, batch = 2, evaluation_tokens = 64 }}
measure = {{ repeats = 2 }}
objectives = [{{ metric = "val_loss" }}, {{ metric = "weights_mib" }}]
constraints = [{{ metric = "params", max = 12000 }}]
search = {{ sampler = "random" }}
resources = {{ device = "cpu" }}
baselines = [{{ hidden = 16, depth = 1, attention = {{ kind = "linear" }} }}]
[space]
depth = [1, 2]
hidden = [16, 24]
attention = [{{ kind = "softmax", heads = [1, 2, 4], kv_heads = [1, "all"] }}]
"""
TWO_LAYERS = {"hidden": 16, "blocks": [{"attention": {"kind": "softmax", "heads": 2}}] * 2}


@pytest.fixture
def file(tmp_path) -> Path:
    corpus = tmp_path / "fox.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    path = tmp_path / "tiny.toml"
    path.write_text(STUDY.format(corpus=corpus), encoding="utf-8")
    return path


def test_what_an_architecture_is_worth_is_the_mean_of_its_seeds(tmp_path):
    shelf = Shelf(tmp_path / "shelf.json")
    key = shelf.add(TWO_LAYERS, 0.01)
    assert key.endswith("@0.01")
    shelf.entries[key] |= {"measured": {"params": 7.0}, "trained": {"0": {"val_loss": 2.0}, "1": {"val_loss": 4.0}}}
    assert shelf.metrics(key, 1) == {"params": 7.0, "val_loss": 2.0}
    assert shelf.metrics(key, 2) == {"params": 7.0, "val_loss": 3.0}
    shelf.entries[key]["trained"]["1"] = {"failed": "nan"}
    assert shelf.metrics(key, 1) is not None
    assert shelf.metrics(key, 2) is None


def test_trainings_run_side_by_side_unless_their_time_is_judged(file):
    assert jobs_of(study_file.load(file), 4) == 4
    assert jobs_of(study_file.load(file, ["objectives.1.metric=train_seconds"]), 4) == 1
    assert jobs_of(study_file.load(file, ['constraints=[{metric="tokens_per_second",min=1}]']), 4) == 1


# What is kept


class Table:
    """Runs, measurements and trainings by formula, counted. `fails`: who, seed → what is raised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
        self.ran, self.measured, self.trained = [], [], []
        self.fails: dict[tuple[str, int], BaseException] = {}
        self.walked = [a for _, a in Space(study_file.load(file).spaces()).walk()]
        self.weights, self.trials = 0.5, 6
        monkeypatch.setattr(Shelf, "measure", lambda shelf, keys, *rest: self.measure(shelf, keys))
        monkeypatch.setattr(Shelf, "train", lambda shelf, keys, seeds, *rest: self.train(shelf, keys, seeds))

    def run(self, who, settings, seconds):
        seed = settings.search.seed
        if (who, seed) in self.fails:
            raise self.fails[who, seed]
        self.ran.append((who, seed))
        picked = random.Random(f"{who}{seed}").sample(self.walked, self.trials)
        assert (seconds, settings.baselines) == (30, ())
        return [
            {
                "seconds": 2.0 * (i + 1) if who != "stock" else 5.0 * (i + 1),
                "architecture": architecture.canonical(),
                "learning_rate": None,
                "metrics": {"val_loss": 3 - architecture.depth / 2 - i / 10, "params": 1.0, "weights_mib": 0.1 + i},
            }
            for i, architecture in enumerate(picked)
        ]

    def measure(self, shelf, keys):
        for key in keys:
            entry = shelf.entries[key]
            if entry["measured"] is None:
                self.measured.append(key)
                hidden = entry["architecture"]["hidden"]
                entry["measured"] = {"weights_mib": hidden / 100 + len(entry["architecture"]["blocks"]) / 10}
                entry["measured"] |= {"params": 1.0, "contended": 0.0}
        shelf.save()

    def train(self, shelf, keys, seeds):
        for key in keys:
            for seed in map(str, range(seeds)):
                if seed not in shelf.entries[key]["trained"]:
                    self.trained.append((key, seed))
                    shelf.entries[key]["trained"][seed] = {"val_loss": 2 - int(key[0], 16) / 20 + int(seed)}
        shelf.save()


@pytest.fixture
def table(monkeypatch, file) -> Table:
    return Table(monkeypatch, file)


def settings_of(file: Path, **changed) -> Settings:
    return Settings(**{"file": file, "minutes": 0.5, "seeds": 2} | changed)


def bench(table: Table, out: Path, settings: Settings) -> dict:
    return compare(settings, out, lambda what: None, table.run)


def test_ours_and_stock_take_turns_in_going_first(table, file, tmp_path):
    result = bench(table, tmp_path / "out", settings_of(file, seeds=3))
    assert table.ran == [("ours", 0), ("stock", 0), ("stock", 1), ("ours", 1), ("ours", 2), ("stock", 2)]
    assert list(result["rows"]) == ["ours", "stock"]
    assert result["time_ratio"] == result["rows"]["ours"]["time_ratio"]
    assert result["retrained"] == len({key for key, _ in table.trained})
    assert len(table.measured) == len(set(table.measured)) <= result["retrained"] + 1
    assert json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8")) == result
    assert set(result) == keys_of_json("nas bench search")


def test_a_second_call_does_nothing_again(table, file, tmp_path):
    first = bench(table, tmp_path, settings_of(file))
    done = (len(table.ran), len(table.measured), len(table.trained))
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert bench(table, tmp_path, settings_of(file)) == first
    assert (len(table.ran), len(table.measured), len(table.trained)) == done
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == files


def test_what_is_missing_is_done(table, file, tmp_path):
    first = bench(table, tmp_path, settings_of(file))
    (tmp_path / "runs" / "stock-1.json").unlink()
    table.ran.clear()
    assert bench(table, tmp_path, settings_of(file)) == first
    assert table.ran == [("stock", 1)]


def test_more_seeds_trainings_and_rows_add_to_what_is_there(table, file, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "ROWS", {who: ROWS[who] for who in ("ours", "stock", "random")})
    bench(table, tmp_path, settings_of(file, seeds=1))
    trained = set(table.trained)
    table.ran.clear()
    more = bench(table, tmp_path, settings_of(file, seeds=2, rows=True, retrain_seeds=2))
    assert table.ran == [("random", 0), ("random", 1), ("stock", 1), ("ours", 1)]
    assert trained < set(table.trained)
    assert len(table.trained) == len(set(table.trained)) == 2 * more["retrained"]
    assert {len(row["hypervolume"]) for row in more["rows"].values()} == {2}
    assert "time_ratio" in more["rows"]["random"]
    assert "time_ratio" not in more["rows"]["stock"]


def test_peers_run_beside_the_rows_where_they_are_and_ours_is_told_against_each(table, file, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "load_pruner", lambda registry: None)
    settings = settings_of(file, seeds=1, rows=True, registry="there", neps="python", only=("tpe_pruned", "primo"))
    result = bench(table, tmp_path, settings)
    assert list(result["rows"]) == ["ours", "stock", "tpe_pruned", "primo"]
    assert list(result["against"]) == ["stock", "tpe_pruned", "primo"]
    assert result["against"]["stock"]["time_ratio"] == result["time_ratio"]
    assert len(result["against"]["primo"]["time_ratio"]["per_seed"]) == 1
    assert settings_of(file, rows=True, neps="python").names()[-1] == "primo"


def test_peers_that_are_nowhere_are_left_out_and_told(table, file, tmp_path):
    said = list[str]()
    result = compare(settings_of(file, seeds=1, rows=True), tmp_path, said.append, table.run)
    assert list(result["rows"]) == list(ROWS)
    assert [what for what in said if "left out" in what] == [
        "tpe_pruned is left out: it needs --registry",
        "gp_pruned is left out: it needs --registry",
        "primo is left out: it needs --neps",
    ]


def test_an_interruption_leaves_what_is_finished(table, file, tmp_path):
    table.fails["stock", 1] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bench(table, tmp_path, settings_of(file))
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["ours-0.json", "stock-0.json"]
    table.fails.clear()
    bench(table, tmp_path, settings_of(file))
    assert len(table.ran) == 4


def test_other_settings_in_the_same_folder_are_refused(table, file, tmp_path):
    bench(table, tmp_path / "out", settings_of(file))
    text = file.read_text(encoding="utf-8")
    for old, new, where in [
        ("steps = 4", "steps = 5", "study.train.steps"),
        ("depth = [1, 2]", "depth = [1]", "study.space.depth"),
        ('sampler = "random"', 'sampler = "tpe"', "study.search.sampler"),
    ]:
        file.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(Conflict) as caught:
            bench(table, tmp_path / "out", settings_of(file))
        assert (caught.value.code, caught.value.where) == ("settings-changed", where)
    file.write_text(text.replace('name = "tiny"', 'name = "other"').replace("baselines", "# baselines"), "utf-8")
    bench(table, tmp_path / "out", settings_of(file))
    with pytest.raises(Conflict, match="other settings") as caught:
        bench(table, tmp_path / "out", settings_of(file, minutes=1))
    assert caught.value.where == "minutes"
    (tmp_path / "fox.txt").write_text("another text with enough of its own words. " * 60, encoding="utf-8")
    with pytest.raises(Conflict) as caught:
        bench(table, tmp_path / "out", settings_of(file))
    assert caught.value.where == "data"


def test_the_folder_names_no_place_of_this_machine(table, file, tmp_path):
    bench(table, tmp_path / "out", settings_of(file))
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("changed", "option"),
    [
        ({"seeds": 0}, "--seeds"),
        ({"minutes": 0}, "--minutes"),
        ({"minutes": -1}, "--minutes"),
        ({"minutes": math.nan}, "--minutes"),
        ({"retrain_seeds": 0}, "--retrain-seeds"),
        ({"jobs": 0}, "--jobs"),
        ({"only": ("gp", "prime")}, "--only"),
        ({"only": ("primo",)}, "--only"),
    ],
)
def test_impossible_options_are_refused_before_anything_runs(table, file, tmp_path, changed, option):
    with pytest.raises(UsageError) as caught:
        bench(table, tmp_path / "out", settings_of(file, **changed))
    assert caught.value.where == option
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_finished_trial_is_told_and_not_kept(table, file, tmp_path):
    table.trials = 0
    with pytest.raises(NasError, match=r"ours run of seed 0 finished no trial in 0\.5 minutes"):
        bench(table, tmp_path, settings_of(file))
    assert not (tmp_path / "runs").exists()


def test_nothing_within_the_limits_is_told(table, file, tmp_path):
    file.write_text(file.read_text(encoding="utf-8").replace("max = 12000", "max = 0.5"), encoding="utf-8")
    with pytest.raises(NothingFeasible, match="no finished trial is within the limits"):
        bench(table, tmp_path, settings_of(file))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def of_another_shape(path: Path) -> None:
    path.write_text('{"minutes": "many", "who": 3, "key": {"measured": []}}', encoding="utf-8")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def huge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(2**40)  # a hole


def test_a_damaged_file_of_results_is_told_with_its_place(table, file, tmp_path):
    out = tmp_path / "out"
    bench(table, out, settings_of(file, seeds=1))
    paths = (out / "settings.json", out / "retrained.json", out / "runs" / "ours-0.json")
    for path, damage in itertools.product(paths, (truncated, of_another_shape, a_pipe, huge)):
        kept = path.read_bytes()
        damage(path)
        with pytest.raises(Conflict) as caught:
            bench(table, out, settings_of(file, seeds=1))
        assert (caught.value.code, caught.value.where) == ("not-a-benchmark", str(path))
        path.unlink()
        path.write_bytes(kept)
    bench(table, out, settings_of(file, seeds=1))


def test_links_in_the_folder_are_not_followed(table, file, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    bench(table, out, settings_of(file, seeds=1))
    elsewhere.mkdir()
    for name in ("settings.json", "retrained.json", "runs/ours-0.json", "runs"):
        path, there = out / name, elsewhere / name.rpartition("/")[2]
        path.rename(there)
        path.symlink_to(there)
        before = {p: p.read_bytes() for p in elsewhere.rglob("*") if p.is_file()}
        with pytest.raises(Conflict) as caught:
            bench(table, out, settings_of(file, seeds=2))
        assert caught.value.code == "linked"
        assert {p: p.read_bytes() for p in elsewhere.rglob("*") if p.is_file()} == before
        path.unlink()
        there.rename(path)


def test_every_line_and_every_name_is_in_the_figure():
    names = [*ROWS, *PEERS]
    curves = {who: [Curve([1, 5], [1.0, 2.0 + i / 9]), Curve([2], [1.5])] for i, who in enumerate(names)}
    (axes,) = search_figure.draw(curves, 10, 0.25).axes
    assert [text.get_text() for text in axes.texts][-len(names) :] == names
    assert len({text.get_color() for text in axes.texts}) == len(names)
    assert len(axes.lines) == 3 * len(names) + 1
    assert "0.25 of stock's time (median of 2 seeds)" in axes.get_title(loc="left")
    (alone,) = search_figure.draw({who: curves[who][:1] for who in ("ours", "stock")}, 10, None).axes
    assert len(alone.lines) == 3
    assert "does not reach" in alone.get_title(loc="left")


def test_the_thick_line_is_the_median_at_every_moment():
    middle = search_figure.middle([Curve([1, 3], [1.0, 5.0]), Curve([2], [4.0]), Curve([4], [9.0])])
    assert list(zip(middle.seconds, middle.volumes, strict=True)) == [(1, 0.0), (2, 1.0), (3, 4.0), (4, 5.0)]


# For real


@pytest.mark.parametrize("name", ["attention_zoo", "families"])
def test_stock_trains_what_its_sampler_chose(name):
    file = study_file.load(f"search_spaces/{name}.toml", ["train.learning_rate=[0.01, 0.02]"])
    for seed in range(20):
        chooser = RandomChooser(random.Random(seed))
        architecture = Space(file.spaces()).suggest(chooser)
        found = stock.chosen(file, chooser.params | {"learning_rate": 0.02})
        assert found == (architecture, 0.02)


def test_a_run_that_fails_is_told_with_the_end_of_its_output(file, tmp_path):
    settings = study_file.load(file)
    (tmp_path / "fox.txt").unlink()
    with pytest.raises(NasError, match="the ours run failed") as caught:
        launches.run("ours", settings, seconds=60)
    assert "DataError" in caught.value.detail
    assert "fox.txt" in caught.value.detail


@pytest.mark.usefixtures("quick_search", "parts_in_this_process")
def test_a_training_that_blows_up_is_a_result_and_is_not_repeated(file, tmp_path):
    settings = study_file.load(file, ["train.learning_rate=1000", "train.optimiser=adamw"])
    shelf, said = Shelf(tmp_path / "shelf.json"), list[str]()
    key = shelf.add(Architecture.model_validate(TWO_LAYERS).canonical(), None)
    shelf.measure([key], settings, open_task(settings.task), "cpu", said.append)
    shelf.train([key], 2, settings, "cpu", 1, said.append)
    again = Shelf(tmp_path / "shelf.json")
    assert again.entries == shelf.entries
    assert [list(run) for run in again.entries[key]["trained"].values()] == [["failed"]] * 2
    assert (again.metrics(key, 2), again.metrics(key, 0)) == (None, again.entries[key]["measured"])
    again.train([key], 2, settings, "cpu", 1, said.append)
    assert said == ["measuring 1 of 1, idle", "trained again 1 of 2", "trained again 2 of 2"]


@pytest.mark.soak
@pytest.mark.waits
def test_a_real_comparison(file, tmp_path, monkeypatch, capsys):
    """Ends after two trials a run instead of after its minutes. About 50 seconds on two cores, most of it Ray."""
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(launches, "run", partial(launches.run, trials=2))
    out = tmp_path / "out"
    command = ["nas", "bench", "search", str(file), "--minutes", "5", "--seeds", "1", "--out", str(out), "--json"]

    def nas() -> dict:
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return json.loads(capsys.readouterr().out)

    told = nas()
    assert {path.name for path in out.iterdir()} == {
        *("settings.json", "runs", "retrained.json", "result.json", "timeline.csv"),
        *("hypervolume.svg", "hypervolume.png"),
    }
    facts = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert told == facts | {"v": 1, "type": "result", "folder": str(out)}
    with (out / "timeline.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["who"] for row in rows] == ["ours"] * 2 + ["stock"] * 2
    task, shelf = open_task(study_file.load(file).task), Shelf(out / "retrained.json")
    assert told["reference"]["val_loss"] == pytest.approx(math.log(task.vocabulary))
    for row in (row for row in rows if row["joined_front"] == "True"):
        entry = shelf.entries[row["architecture"]]
        assert float(row["val_loss_retrained"]) == entry["trained"]["0"]["val_loss"] != float(row["val_loss"])
        assert row["weights_mib_retrained"] == row["weights_mib"]
        assert 0 < float(row["seconds"]) < 300
    assert told["rows"]["ours"]["hypervolume"][0] == float(rows[1]["hypervolume"]) > 0
    assert not (tmp_path / "runs").exists()
    assert (told["failed"], told["rows"]["stock"]["trials"]) == (0, [2])
    monkeypatch.setattr(launches, "run", None)  # nothing is left to run
    assert nas() == told
