"""Peers of the search benchmark that stop trainings early, with stand-ins for what is not installed with `nas`."""

import json
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler

from nas.bench import primo, pruned
from nas.errors import NasError, UsageError
from nas.settings import study_file
from nas.tasks import open_task
from nas.training.trainer import rung_steps

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_search")]
STUDY = """
name = "tiny"
task = {{ corpus = "{corpus}", context = 8 }}
train = {{ steps = 4, batch = 2, evaluation_tokens = 64, rungs = [0.5, 1.0] }}
measure = {{ repeats = 2 }}
objectives = [{{ metric = "val_loss" }}, {{ metric = "weights_mib" }}]
constraints = [{{ metric = "params", max = 9000 }}]
resources = {{ device = "cpu" }}
[space]
depth = [1, 2]
hidden = [16, 24]
attention = [{{ kind = "softmax", heads = [1, 2, 4], kv_heads = [1, "all"] }}]
"""
PRUNER = """
class MultiMetricPruner(__import__("optuna").pruners.NopPruner):
    def __init__(self, base, *, metric_directions, joint):
        self.base, self.metric_directions, self.joint = base, metric_directions, joint


class MultiMetricPrunerTrial:
    reported = []
    prunes = False

    def __init__(self, trial):
        self.trial = trial

    def __getattr__(self, name):
        return getattr(self.trial, name)

    def report(self, values, step):
        self.reported.append((self.trial.number, step, dict(values)))

    def should_prune(self):
        return self.prunes
"""
SERVER = """
import json, random, sys
job = json.loads(sys.stdin.readline())
print(json.dumps({"rungs": [job["least"], job["most"]], "version": "0"}), flush=True)
generator, asked, told = random.Random(job["seed"]), [], []
for line in sys.stdin:
    message = json.loads(line)
    if "ask" in message:
        config = {name: generator.randrange(len(options)) for name, options in job["parameters"].items()}
        first = not asked or asked[-1]["steps"] == job["most"]
        asked.append({"id": str(len(asked)), "before": None, "steps": job["least" if first else "most"]})
        asked[-1]["config"] = config if first else asked[-2]["config"]
        print(json.dumps(asked[-1]), flush=True)
    else:
        told.append(message)
        open(sys.argv[0] + ".told", "w").write(json.dumps(told))
        print("{}", flush=True)
"""


@pytest.fixture
def path(tmp_path) -> Path:
    corpus = tmp_path / "fox.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    made = tmp_path / "tiny.toml"
    made.write_text(STUDY.format(corpus=corpus), encoding="utf-8")
    return made


@pytest.fixture
def registry(tmp_path) -> Path:
    folder = tmp_path / "registry" / "package" / "pruners" / "multi_metric_pruner"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(PRUNER, encoding="utf-8")
    return tmp_path / "registry"


# OptunaHub's pruner


def test_a_clone_without_the_pruner_is_told(tmp_path):
    with pytest.raises(UsageError, match="no package/pruners/multi_metric_pruner"):
        pruned.load_pruner(str(tmp_path))


@pytest.mark.parametrize("prunes", [False, True])
def test_a_trial_reports_all_objectives_at_every_rung_and_ends_where_the_pruner_says(path, registry, prunes):
    file, module = study_file.load(path), pruned.load_pruner(str(registry))
    module.MultiMetricPrunerTrial.reported, module.MultiMetricPrunerTrial.prunes = [], prunes
    study = pruned.pruned_study(file, module, RandomSampler(seed=0), None)
    assert study.pruner.metric_directions == {"val_loss": "minimize", "weights_mib": "minimize"}
    assert study.pruner.joint
    later, task = time.time() + 60, open_task(file.task)
    study.optimize(
        lambda trial: pruned.train(trial, file=file, device="cpu", module=module, task=task, until=later), n_trials=3
    )
    reported = module.MultiMetricPrunerTrial.reported
    steps = (2,) if prunes else (2, 4)
    assert [(number, step) for number, step, _ in reported] == [(i, step) for i in range(3) for step in steps]
    assert all(set(values) == {"val_loss", "weights_mib"} for *_, values in reported)
    assert {trial.state.name for trial in study.trials} == {"PRUNED" if prunes else "COMPLETE"}
    for trial in study.trials:
        assert set(trial.constraints) == {"params"}
        if not prunes:
            finished = trial.user_attrs["finished"]
            assert trial.values == [finished["metrics"]["val_loss"], finished["metrics"]["weights_mib"]]


def test_a_trial_ends_with_the_time(path, registry):
    file, module = study_file.load(path), pruned.load_pruner(str(registry))
    study = pruned.pruned_study(file, module, RandomSampler(seed=0), None)
    with pytest.raises(optuna.TrialPruned, match="time is up"):
        pruned.train(study.ask(), file=file, device="cpu", module=module, task=open_task(file.task), until=0)


# PriMO


@pytest.fixture
def server(tmp_path, monkeypatch) -> Path:
    script = tmp_path / "server.py"
    script.write_text(SERVER, encoding="utf-8")
    monkeypatch.setattr(primo, "SERVER", script)
    return script


class Pool:
    """Runs what is submitted at once, in this process."""

    def __init__(self, *given: object) -> None:
        pass

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *given: object) -> None:
        pass

    def submit(self, work, *arguments):
        call: Future = Future()
        call.set_result(work(*arguments))
        return call


def test_primo_lengthens_trainings_and_full_ones_are_finished_trials(path, server, tmp_path, monkeypatch):
    monkeypatch.setattr(primo, "ProcessPoolExecutor", Pool)
    file, now = study_file.load(path), time.time()
    folder = tmp_path / "run"
    folder.mkdir()
    finished = primo.run(file, folder, now, now + 60, 4, python=sys.executable)
    told = json.loads(Path(f"{server}.told").read_text(encoding="utf-8"))
    assert [message["tell"] for message in told] == ["0", "1", "2", "3"]
    assert len(finished) == 2
    for trial, message in zip(finished, told[1::2], strict=True):
        assert message["values"] == [trial["metrics"]["val_loss"], trial["metrics"]["weights_mib"]]
        assert 0 < trial["seconds"] < 60
    assert len(list(folder.glob("*.safetensors"))) == 2  # each continued from its checkpoint


def test_a_lengthened_training_is_the_training_of_that_length(path, tmp_path):
    file = study_file.load(path)
    parameters, rungs = primo.parameters_of(file), rung_steps(file.train)
    config = dict.fromkeys(parameters, 1)
    folders = [tmp_path / "twice", tmp_path / "once"]
    for folder in folders:
        folder.mkdir()
    until, found = time.time() + 60, []
    for folder, lengths in zip(folders, ((2, 4), (4,)), strict=True):
        for steps in lengths:
            told = primo.train({"config": config, "steps": steps}, parameters, rungs, file, "cpu", folder, until)
        found.append(told)
    assert found[0]["architecture"] == found[1]["architecture"]
    assert found[0]["metrics"]["val_loss"] == found[1]["metrics"]["val_loss"]
    assert primo.train({"config": config, "steps": 4}, parameters, rungs, file, "cpu", tmp_path, 0) is None


def test_primo_is_given_every_parameter_that_an_architecture_may_have(path):
    found = primo.parameters_of(study_file.load(path, ["train.learning_rate=[0.01,0.02]", "space.mixed=true"]))
    assert found["hidden"] == [16, 24]
    assert found["learning_rate"] == [0.01, 0.02]
    assert {name.split(".")[0] for name in found} >= {"block0", "block1"}


def test_a_python_without_neps_is_told(tmp_path, monkeypatch):
    script = tmp_path / "server.py"
    script.write_text("import a_package_that_is_not_there", encoding="utf-8")
    monkeypatch.setattr(primo, "SERVER", script)
    with pytest.raises(NasError, match="PriMO ended"):
        primo.Server(sys.executable, {})
