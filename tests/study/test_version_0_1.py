"""A study that version 0.1 made is listed, shown, reported, resumed and trained, by the recipe that it had."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest

import nas
from nas.errors import Conflict
from nas.report import write
from nas.results import State
from nas.running import driver
from nas.running.driver import Launch
from nas.running.proposer import seed_of
from nas.settings import recipe_versions, study_file
from nas.study.checked import with_recipe
from nas.study.database import sqlite_url
from nas.study.job_answers import NewJob
from nas.study.job_tables import job_key
from nas.study.leases import join
from nas.study.standing import standing
from nas.study.store import Store
from nas.study.stored_study import open_study, study_names
from nas.study.study_drivers import hardware_of
from nas.tasks import open_task
from nas.training.trainer import Trainer

STORED = Path(__file__).parent / "version_0_1"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of the study `old`, beside its corpus."""
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "old"
    shutil.copytree(STORED, folder)
    with closing(sqlite3.connect(folder / "study.db")) as database:
        database.executescript((folder / "study.sql").read_text(encoding="utf-8"))
    (tmp_path / "corpus.txt").write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    return folder


def test_it_is_read_and_goes_on(folder, tmp_path):
    before = (folder / "study.db").read_bytes()
    study = open_study("old")
    assert study_names() == ["old"]
    assert [trial.state for trial in study.trials()] == [State.COMPLETE] * 4
    assert standing(study)["trained"] == 4
    assert hardware_of(study, 0) == ""
    assert write(study.record_for_report(), tmp_path / "report").is_file()
    assert (folder / "study.db").read_bytes() == before
    first = [(trial.number, trial.metrics, trial.rungs) for trial in study.trials()]

    again = driver.run(study.file, folder, Launch(executor="serial", trials=5)).study
    assert again.record().trained_count() == 5
    assert [(trial.number, trial.metrics, trial.rungs) for trial in again.trials()][:4] == first
    stored = optuna.storages.RDBStorage(sqlite_url(folder))
    attributes = stored.get_study_system_attrs(stored.get_study_id_from_name("old"))
    assert attributes["study:metric_names"] == ["val_loss", "flops_per_token"]
    stored.remove_session()
    stored.engine.dispose()


def test_what_that_version_trains_once_it_is_prepared_is_trained_once(folder):
    """A trial waits when a driver of this version leaves; one of version 0.1 comes and finishes it."""
    with closing(Store.open(sqlite_url(folder))) as store:
        first, leases = store.rows()[0], join(store.database, "old", 5)
        told = first.user_attrs
        design = {key: told[key] for key in ("architecture", "architecture_id", "learning_rate") if key in told}
        key = job_key(told["architecture_id"], told.get("learning_rate"), again="0")
        attributes = {**design, "retry_of": 0, "proposed": 1.0, "attempt": 0}
        assert leases.enqueue(NewJob(key, attributes, params=first.params, distributions=first.distributions))[1]
        leases.leave()
    storage = optuna.storages.RDBStorage(sqlite_url(folder))
    (waiting,) = storage.get_all_trials(1, states=[optuna.trial.TrialState.WAITING])
    storage.set_trial_state_values(waiting._trial_id, optuna.trial.TrialState.RUNNING)
    for name, value in {"attempt": 1, "metrics": told["metrics"], "rungs": told["rungs"]}.items():
        storage.set_trial_user_attr(waiting._trial_id, name, value)
    storage.set_trial_state_values(waiting._trial_id, optuna.trial.TrialState.COMPLETE, first.values)
    storage.remove_session()
    storage.engine.dispose()
    before = open_study("old").trials()

    study = driver.run(open_study("old").file, folder, Launch(executor="serial", trials=6)).study
    assert study.trials()[:5] == before
    assert [trial.state for trial in study.trials()] == [State.COMPLETE] * 6


def test_its_own_file_goes_on_with_the_first_recipe(folder):
    file = study_file.load(folder / "study.toml", ["task.corpus=corpus.txt"])
    assert file.train.recipe == recipe_versions.NEWEST > recipe_versions.FIRST == open_study("old").file.train.recipe
    study = driver.run(file, folder, Launch(executor="serial", trials=5)).study
    assert study.file.train.recipe == recipe_versions.FIRST
    last = study.trial(4)

    def loss(version):
        settings, seed = with_recipe(file, version).train, seed_of(file.search.seed, 4)
        trainer = Trainer(last.model, open_task(file.task), settings, seed=seed, learning_rate=last.learning_rate)
        while not trainer.done:
            rung = trainer.run_to_next_rung()
        return rung.metrics["val_loss"]

    assert last.metrics["val_loss"] == loss(recipe_versions.FIRST) != loss(recipe_versions.NEWEST)


def test_its_architectures_are_trained_by_the_first_recipe(folder):
    changed = nas.open_study("old").train(0, steps=2, overrides=["train.recipe=2"]).metrics
    assert nas.open_study("old").train(0, steps=2).metrics != changed
    assert sorted(path.name.split("-", 2)[2] for path in (folder / "trained").iterdir()) == ["2", "2-recipe=2"]


def test_another_recipe_in_the_file_is_refused(folder):
    file = study_file.load(folder / "study.toml", ["task.corpus=corpus.txt", "train.recipe=2"])
    with pytest.raises(Conflict, match=r"created with another \[train\]") as caught:
        driver.run(file, folder, Launch(executor="serial", trials=5))
    assert (caught.value.code, caught.value.detail[:15]) == ("train-changed", "stored 1   now ")


def test_a_recipe_that_this_version_lacks_is_read_and_not_continued(folder):
    with closing(Store.open(sqlite_url(folder))) as store:
        settings = store.attributes()["settings"]
        settings["train"]["recipe"] = 99
        store.set_attribute("settings", settings)
    file = study_file.load(folder / "study.toml", ["task.corpus=corpus.txt"])
    study = nas.open_study("old")
    assert len(study.front()) > 0
    for attempt in (
        lambda: driver.run(file, folder, Launch(executor="serial", trials=5)),
        lambda: driver.run(open_study("old").file, folder, Launch(executor="serial", trials=5)),
        lambda: study.train(0),
    ):
        with pytest.raises(Conflict) as caught:
            attempt()
        assert caught.value.code == "recipe-unknown"
        assert caught.value.help.startswith("nas search ... --study old_2")
    assert len(open_study("old").trials()) == 4


def test_the_fixture_is_small_and_of_that_version():
    assert sum(path.stat().st_size for path in STORED.iterdir()) < 30_000
    assert json.loads((STORED / "environment.json").read_text())["versions"]["nas"] == "0.1.0"
