"""A study that version 0.1 made is listed, shown, reported and resumed."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna

from nas.report import write
from nas.results import State
from nas.running import driver
from nas.running.driver import Launch
from nas.study.database import sqlite_url
from nas.study.standing import standing
from nas.study.stored_study import open_study, study_names

STORED = Path(__file__).parent / "version_0_1"


def test_it_is_read_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "old"
    shutil.copytree(STORED, folder)
    with closing(sqlite3.connect(folder / "study.db")) as database:
        database.executescript((folder / "study.sql").read_text(encoding="utf-8"))
    (tmp_path / "corpus.txt").write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    before = (folder / "study.db").read_bytes()
    study = open_study("old")
    assert study_names() == ["old"]
    assert [trial.state for trial in study.trials()] == [State.COMPLETE] * 4
    assert standing(study)["trained"] == 4
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


def test_the_fixture_is_small_and_of_that_version():
    assert sum(path.stat().st_size for path in STORED.iterdir()) < 30_000
    assert json.loads((STORED / "environment.json").read_text())["versions"]["nas"] == "0.1.0"
