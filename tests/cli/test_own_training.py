"""Commands on a study that a body of the user's own trains, and the worked example of docs/own_training.md."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import nas
from nas import Finished, Job, Measured, Reached
from nas.cli.__main__ import main
from tests.own_study import METRICS

EXAMPLE = Path(__file__).parents[2] / "docs" / "own_training"
MODULE = """
from nas import Finished, Measured, Reached

def train(job):
    x = job.parameters["x"]
    yield Measured({"size": 1 + 10 * x})
    for step in job.rungs:
        yield Reached(step, {"error": (1 - x) ** 2 + 1 / step})
    yield Finished({"error": (1 - x) ** 2 + 1 / job.steps})
"""
STUDY = (
    """
name = "mine"
[trial]
body = "BODY:train"
[space.parameters]
x = { low = 0.0, high = 1.0 }
kind = "plain"
"""
    + METRICS
    + """
[train]
steps = 8
[search]
trials = 6
stopping = false
skip = false
"""
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to run commands in, with a study file and its module beside it."""
    monkeypatch.chdir(tmp_path)
    for variable in ("NAS_RUNS", "NAS_REPORTS"):
        monkeypatch.delenv(variable, raising=False)
    name = f"body_of_{abs(hash(tmp_path))}"
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / f"{name}.py").write_text(MODULE)
    (tmp_path / "space" / "mine.toml").write_text(STUDY.replace("BODY", name))
    yield tmp_path
    sys.modules.pop(name, None)
    sys.path[:] = [path for path in sys.path if path != str(tmp_path / "space")]


def called(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    monkeypatch.setattr(sys, "argv", ["nas", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


@pytest.mark.slow
def test_commands_show_parameters_where_they_show_architectures_otherwise(place, monkeypatch, capsys):
    code, out, _ = called(monkeypatch, capsys, "check", "space/mine.toml")
    assert (code, "continuous" in out, "its code is not run here" in out) == (0, True, True)
    code, out, err = called(monkeypatch, capsys, "search", "space/mine.toml", "--executor", "serial", "--no-progress")
    assert (code, "6 of 6 trials trained" in err) == (0, True)
    # From here on the module is gone: reading commands never import it.
    shutil.rmtree(place / "space")
    for command in ("status mine", "list", "front mine", "show mine 0", "report mine"):
        code, out, err = called(monkeypatch, capsys, *command.split())
        assert code == 0, err
    code, out, _ = called(monkeypatch, capsys, "front", "mine", "--where", "size<=6", "--format", "json")
    assert {row["parameters"]["kind"] for row in json.loads(out)} == {"plain"}
    assert all(row["metrics"]["size"] <= 6 and row["architecture"] == {} for row in json.loads(out))
    code, out, _ = called(monkeypatch, capsys, "show", "mine", "0", "--json")
    shown = json.loads(out)
    assert set(shown["parameters"]) == {"x", "kind"}
    assert shown["commands"] == []
    page = (place / "reports" / "mine" / "index.html").read_text()
    assert "nas train" not in page.split("<script")[0]
    assert "Continuous choices of x and kind" in page
    assert '<th class="wide">Parameters</th>' in page
    assert "error at each rung" in page


@pytest.mark.slow
def test_what_needs_an_architecture_is_refused_by_name(place, monkeypatch, capsys):
    called(monkeypatch, capsys, "search", "space/mine.toml", "--executor", "serial", "--no-progress", "--trials", "2")
    for command in ("train mine 0", "generate mine 0 --prompt x"):
        code, _, err = called(monkeypatch, capsys, *command.split())
        assert (code, f"`nas {command.split()[0]}` supports only the built-in training" in err) == (2, True)
    code, _, err = called(monkeypatch, capsys, "resume", "mine", "--trials", "3")
    assert (code, "nas search FILE" in err) == (4, True)
    code, _, err = called(
        monkeypatch, capsys, "search", "space/mine.toml", "--executor", "serial", "--no-progress", "--trials", "3"
    )
    assert (code, "3 of 3 trials trained" in err) == (0, True)


@pytest.mark.parametrize(
    ("body", "told", "near"),
    [
        ("nowhere_at_all:train", "No module named 'nowhere_at_all'", ""),
        ("json:train", "'json' has no 'train'", ""),
        ("BODY:trian", "'BODY' has no 'trian'", "did you mean 'BODY:train'?"),
        ("BODIES:train", "No module named 'BODIES'", "did you mean 'BODY:train'?"),
        ("package_of.bodys:train", "No module named 'package_of.bodys'", "did you mean 'package_of.bodies:train'?"),
        ("pakage_of.bodies:train", "No module named 'pakage_of'", "did you mean 'package_of.bodies:train'?"),
        ("package_of.bodies:Runner.trian", "'package_of.bodies:Runner' has no 'trian'", "bodies:Runner.train'?"),
        ("package_of.bodies:limit", "'package_of.bodies:limit' is not a function", ""),
        ("package_of.broken:train", "importing 'package_of.broken' fails", ""),
        ("package_of.lacking:train", "importing 'package_of.lacking' fails", ""),
    ],
)
def test_a_body_that_is_not_there_is_told_with_its_place_and_a_near_name(place, monkeypatch, capsys, body, told, near):
    text = (place / "space" / "mine.toml").read_text()
    own = text.split('body = "')[1].split(":")[0]
    package = place / "space" / "package_of"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "bodies.py").write_text("limit = 3\ndef train(job): ...\nclass Runner:\n    def train(job): ...\n")
    (package / "broken.py").write_text("def train(job)\n")
    (package / "lacking.py").write_text("import no_such_module_at_all\n")
    body, told, near = (
        part.replace("BODY", own).replace("BODIES", own.replace("body", "bdy")) for part in (body, told, near)
    )
    (place / "space" / "other.toml").write_text(text.replace(f"{own}:train", body))
    code, _, err = called(monkeypatch, capsys, "search", "space/other.toml", "--executor", "serial")
    for name in [name for name in sys.modules if name.startswith("package_of")]:
        del sys.modules[name]
    assert (code, err.count("error["), "trial.body" in err) == (2, 1, True)
    assert (told in err, near in err, "did you mean" in err) == (True, True, bool(near)), err
    assert not (place / "runs" / "mine" / "study.db").exists()


def test_what_trials_fail_of_is_told_with_what_runs_them_once_more(place, monkeypatch, capsys):
    module = next((place / "space").glob("*.py"))
    module.write_text("def train(job):\n    raise ValueError('no data')\n    yield\n")
    code, _, err = called(monkeypatch, capsys, "search", "space/mine.toml", "--executor", "serial", "--no-progress")
    assert code == 6
    assert "trial 0 error  ValueError: no data  (" in err
    assert "      trial 4: ValueError: no data" in err
    assert "nas.resume('mine', body=..., retry_failed=True)" in err
    assert "nas resume" not in err


def test_a_metric_that_the_body_does_not_tell_in_time_is_named(place, monkeypatch, capsys):
    module = next((place / "space").glob("*.py"))
    module.write_text("from nas import Finished\ndef train(job):\n    yield Finished({'error': 0.5, 'size': 1})\n")
    code, _, err = called(monkeypatch, capsys, "search", "space/mine.toml", "--executor", "serial", "--no-progress")
    assert (code, "the body told no 'size' before training" in err) == (2, True)
    assert 'yield Measured({"size": ...}) first' in err


def test_stopping_what_does_not_run_names_the_command_that_goes_on(place, monkeypatch, capsys):
    called(monkeypatch, capsys, "search", "space/mine.toml", "--executor", "serial", "--no-progress", "--trials", "2")
    code, _, err = called(monkeypatch, capsys, "stop", "mine")
    assert (code, "nas search FILE   continues it" in err) == (4, True)


def test_a_body_that_is_no_module_and_function_is_told_the_form(place, monkeypatch, capsys):
    code, _, err = called(monkeypatch, capsys, "check", "space/mine.toml", "-s", "trial.body=mine.train")
    assert (code, 'expected module:function, as in "digits_training:train"' in err) == (2, True)


def from_python(job: Job):
    yield Measured({"size": 1 + job.parameters["x"]})
    yield Reached(job.rungs[0], {"error": job.parameters["x"]})
    yield Finished({"error": job.parameters["x"]})


def test_python_gives_the_function_itself_and_again_to_go_on(place):
    file = nas.load("space/mine.toml", ["search.trials=2"])
    study = nas.search(file, study="given", executor="serial", body=from_python)
    assert study.status()["trained"] == 2
    assert set(study.to_frame()["params.x"]) == {trial.parameters["x"] for trial in study.trials()}
    with pytest.raises(nas.Conflict):
        nas.resume("given", trials=3, executor="serial")
    assert nas.resume("given", trials=3, executor="serial", body=from_python).status()["trained"] == 3
    with pytest.raises(nas.UsageError, match="supports only the built-in training"):
        study.train(0)


@pytest.mark.slow
def test_the_worked_example_trains_perceptrons_that_learn(place):
    file = nas.load(
        EXAMPLE / "digits.toml", ["search.trials=3", "train.steps=20", "space.parameters.learning_rate=0.01"]
    )
    study = nas.search(file, executor="serial")
    best = study.front()[0]
    assert best.metrics["error"] < 0.5  # guessing leaves 0.9
    assert best.metrics["latency_ms"] > 0
    assert (study.folder / "trials" / str(best.number) / "model.pickle").exists()


@pytest.mark.slow
@pytest.mark.waits
@pytest.mark.usefixtures("ray_in_this_process")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_ray_runs_a_named_body_and_one_that_is_given(place):
    assert nas.search("space/mine.toml", cpus=1, trials=2).status()["trained"] == 2
    offset = 0.5  # a closure, which workers cannot import

    def closure(job):
        yield Measured({"size": 1.0, "with_ray_tune": float("ray.tune" in sys.modules)})
        yield Finished({"error": offset + job.parameters["x"]})

    given = nas.search("space/mine.toml", study="given", cpus=1, trials=2, body=closure)
    trained = [trial.metrics for trial in given.trials() if trial.state == "COMPLETE"]
    assert all(metrics["error"] >= offset for metrics in trained)
    assert not any(metrics["with_ray_tune"] for metrics in trained), "it takes 130 MiB of each worker"
    assert given.status()["trained"] == 2
    assert sorted(path.name for path in given.folder.iterdir() if "pickle" in path.name or "pkl" in path.name) == []
