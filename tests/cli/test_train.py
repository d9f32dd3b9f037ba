"""`nas train`."""

import json
import logging
import signal
from pathlib import Path

import pytest

from nas.running.proposer import seed_of
from nas.study import open_study
from nas.training.trained_model import read_model

pytestmark = pytest.mark.slow
DETERMINISTIC = ("val_loss", "val_accuracy", "test_loss", "test_accuracy")


def metrics_in(folder: Path) -> dict[str, float]:
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    return {name: metrics[name] for name in DETERMINISTIC}


def test_trains_tests_and_keeps_everything(nas, runs):
    ran = nas("train", "demo", 0)
    seed = seed_of(0, 0)
    folder = runs / "demo" / "trained" / f"0-s{seed}-6"
    assert (ran.code, ran.out) == (0, f"{folder}\n")
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.safetensors", "architecture.json", "vocabulary.json", "metrics.json"}
    stored = json.loads((folder / "metrics.json").read_text())
    assert (stored["trial"], stored["seed"], stored["steps"]) == (0, seed, 6)
    assert {"val_loss", "test_loss", "test_accuracy"} <= set(stored["metrics"])
    assert set(stored["floors"]) == {"val", "test"}
    trained = read_model(folder)
    model, coder = trained.module, trained.coder
    assert len(coder.symbols) == 38
    assert model(torch_tokens()).shape == (1, 3, 38)
    assert "step 3 of 6: val_loss" in ran.err
    assert "5-gram loss" in ran.err


def test_repeats_the_trial_as_the_search_would_train_it(nas, runs, settings):
    from nas.tasks import open_task
    from nas.training.trainer import Trainer

    architecture = open_study("demo").trial(0).model
    trainer = Trainer(architecture, open_task(settings.task), settings.train, seed=seed_of(0, 0))
    while not trainer.done:
        rung = trainer.run_to_next_rung()
    nas("train", "demo", 0)
    (folder,) = (runs / "demo" / "trained").iterdir()
    assert metrics_in(folder)["val_loss"] == rung.metrics["val_loss"]


def test_done_already(nas, runs):
    first = nas("train", "demo", 0)
    weights = Path(first.out.strip()) / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again = nas("train", "demo", 0)
    assert (again.code, again.out) == (0, first.out)
    assert "Trained already." in again.err
    assert "5-gram loss" in again.err
    assert weights.stat().st_mtime_ns == before


def test_a_floor_of_one_split_alone_is_shown_with_a_dash(nas, runs):
    folder = Path(nas("train", "demo", 0).out.strip())
    stored = json.loads((folder / "metrics.json").read_text())
    stored["floors"]["val"]["5-gram"]["exact_match:b"] = 0.25
    stored["floors"]["test"]["5-gram"]["exact_match:[/c]"] = 0.75
    (folder / "metrics.json").write_text(json.dumps(stored))
    ran = nas("train", "demo", 0)
    assert (ran.code, ran.out) == (0, f"{folder}\n")
    told = [line.split()[-3:] for line in ran.err.splitlines() if "exact_match" in line]
    assert told == [["exact_match:b", "0.2500", "–"], ["exact_match:[/c]", "–", "0.7500"]]


def test_steps_seed_and_folder_can_be_chosen(nas, runs, tmp_path):
    assert nas("train", "demo", 0, "--steps", 8, "--seed", 1).out.endswith("trained/0-s1-8\n")
    ran = nas("train", "demo", 0, "--steps", 2, "--out", tmp_path / "here", "--device", "cpu")
    assert ran.out == f"{tmp_path / 'here'}\n"
    other = nas("train", "demo", 4, "--steps", 2, "--out", tmp_path / "here")
    assert other.code == 4
    assert "trial: stored 0, now 4" in other.err


def test_the_recipe_can_be_changed_and_the_folder_says_how(nas, runs):
    ran = nas("train", "demo", 0, "--seed", 1, "-s", "train.learning_rate=0.01", "-s", "train.weight_decay=0.5")
    assert ran.out.endswith("trained/0-s1-6-weight_decay=0.5-learning_rate=0.01\n")
    stored = json.loads((Path(ran.out.strip()) / "metrics.json").read_text())
    assert stored["changed"] == {"weight_decay": 0.5, "learning_rate": 0.01}
    plain = nas("train", "demo", 0, "--seed", 1)
    assert metrics_in(Path(plain.out.strip())) != metrics_in(Path(ran.out.strip()))
    assert (
        "changed: stored {}"
        in nas("train", "demo", 0, "--seed", 1, "-s", "train.batch=2", "--out", plain.out.strip()).err
    )


def test_what_is_given_as_it_was_changes_nothing(nas, runs):
    assert nas("train", "demo", 0, "--seed", 1, "-s", "train.batch=4").out.endswith("trained/0-s1-6\n")


def test_more_of_the_text_can_be_trained_on_in_the_end(nas, runs):
    ran = nas("train", "demo", 0, "--seed", 1, "-s", "task.split=90/10")
    assert ran.out.endswith("trained/0-s1-6-split=90_10\n")
    stored = json.loads((Path(ran.out.strip()) / "metrics.json").read_text())
    plain = json.loads((Path(nas("train", "demo", 0, "--seed", 1).out.strip()) / "metrics.json").read_text())
    assert stored["changed"] == {"split": "90/10"}
    assert stored["floors"]["val"] == stored["floors"]["test"] != plain["floors"]["test"]
    assert stored["metrics"]["test_loss"] != plain["metrics"]["test_loss"]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("space.hidden=8", "a training may change the keys of [train], and task.split"),
        ("task.splitt=8", "'task.splitt' cannot be changed"),
        ("train.batch", "expected key=value"),
        ("train.steps=8", "use --steps"),
        ("train.time_limit=5m", "there is none here"),
        ("train.stepps=8", "unknown key 'stepps'"),
        ("train.learning_rate=[0.1, 0.2]", "several learning rates"),
    ],
)
def test_a_recipe_that_cannot_be_is_a_usage_error(nas, runs, override, told):
    ran = nas("train", "demo", 0, "-s", override)
    assert ran.code == 2
    assert told in ran.err
    assert not (runs / "demo" / "trained").exists()


@pytest.mark.parametrize("place", ["runs/demo", "runs", ".", "file"])
def test_a_folder_that_holds_something_else_is_refused(nas, runs, tmp_path, place):
    (tmp_path / "file").touch()
    nas("status", "demo")  # opens the database, which makes files of its own
    before = sorted(tmp_path.rglob("*"))
    ran = nas("train", "demo", 0, "--out", tmp_path / place)
    assert (ran.code, ran.out) == (4, "")
    assert "error[not-a-training]" in ran.err
    assert sorted(tmp_path.rglob("*")) == before


def test_weights_of_somebody_else_are_no_training_of_ours(nas, runs, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "model.safetensors").touch()
    assert "error[not-a-training]" in nas("train", "demo", 0, "--out", tmp_path / "theirs").err


@pytest.mark.parametrize("options", [("--out", ""), ("--seed", 99999999999999999999999)])
def test_options_that_cannot_be_are_usage_errors(nas, runs, options):
    assert nas("train", "demo", 0, *options).code == 2
    assert not (runs / "demo" / "trained").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_it_goes_on_to_the_same_result(nas, runs, tmp_path, signal_at_step, number, code):
    whole = nas("train", "demo", 0, "--out", tmp_path / "whole")
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    signal_at_step(4, number)
    cut = nas("train", "demo", 0)
    assert (cut.code, cut.out) == (code, "")
    assert "Saved at step 4 of 6" in cut.err
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers
    rest = nas("train", "demo", 0)
    assert "Continuing from step 4 of 6." in rest.err
    assert metrics_in(Path(rest.out.strip())) == metrics_in(Path(whole.out.strip()))


def test_a_second_ctrl_c_ends_at_once_and_the_last_rung_is_kept(nas, runs, tmp_path, signal_at_step):
    whole = nas("train", "demo", 0, "--out", tmp_path / "whole")
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    signal_at_step(5, signal.SIGINT, signal.SIGINT)
    cut = nas("train", "demo", 0)
    assert (cut.code, cut.out) == (130, "")
    assert "Saved at step" not in cut.err
    assert "error" not in cut.err
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers
    rest = nas("train", "demo", 0)
    assert "Continuing from step 3 of 6." in rest.err
    assert metrics_in(Path(rest.out.strip())) == metrics_in(Path(whole.out.strip()))


def test_compiling_without_a_compiler_is_a_usage_error(nas, runs, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    ran = nas("train", "demo", 0, "-s", "train.compile=true")
    assert ran.code == 2
    assert "error[no-compiler]" in ran.err
    assert not (runs / "demo" / "trained").exists()


def test_other_data_is_refused(nas, runs, corpus, monkeypatch):
    text = corpus.read_text()
    try:
        corpus.write_text(text + "more")
        ran = nas("train", "demo", 0)
    finally:
        corpus.write_text(text)
    assert (ran.code, ran.out) == (4, "")
    assert "error[data-changed]" in ran.err


def test_an_unknown_device(nas, runs):
    ran = nas("train", "demo", 0, "--device", "tpu")
    assert ran.code == 2
    assert "unknown device 'tpu'" in ran.err


def test_an_unknown_device_where_all_is_trained_already(nas, runs):
    nas("train", "demo", 0)
    ran = nas("train", "demo", 0, "--device", "xla")
    assert ran.code == 2
    assert "unknown device 'xla'" in ran.err


def test_the_log_handlers_do_not_pile_up(nas, runs):
    before = list(logging.getLogger("nas").handlers)
    nas("train", "demo", 0, "-v")
    assert logging.getLogger("nas").handlers == before


def torch_tokens():
    import torch

    return torch.zeros(1, 3, dtype=torch.long)
