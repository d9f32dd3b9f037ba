"""What the study's database asks of Optuna and of the disk."""

import logging
from types import SimpleNamespace

import optuna
import psutil
import pytest

from nas.errors import Conflict, OutOfReach
from nas.results import Objective
from nas.running.placement import network_file_system
from nas.study import lock, optuna_tables
from nas.study.database import sqlite_url
from nas.study.leases import join
from nas.study.store import Store

OBJECTIVES = (Objective("val_loss", "min"), Objective("params", "min"))
ROW = {"architecture_id": "abc", "architecture": {"hidden": 8}, "attempt": 1}


@pytest.mark.parametrize("known", [True, False], ids=["tables that are known", "tables of an unknown version"])
def test_rows_are_read_alike_by_our_tables_and_by_optuna(tmp_path, monkeypatch, caplog, known):
    made = Store.create(sqlite_url(tmp_path), "study", OBJECTIVES)
    metrics = {"metrics": {"val_loss": 1.0, "params": 2.0}}
    limit = {"constraints:params": -1.0}
    made.add_rows([optuna.trial.create_trial(values=[1.0, 2.0], user_attrs=ROW | metrics, system_attrs=limit)])
    made.close()
    if not known:
        monkeypatch.setattr(optuna_tables, "KNOWN_SCHEMAS", set())
    with caplog.at_level(logging.WARNING, "nas"):
        reader = Store.read(tmp_path / "study.db")
    assert len([r for r in caplog.records if "slower" in r.message]) == (not known)
    (row,) = reader.rows()
    assert (row.values, row.user_attrs["attempt"], row.constraints) == ([1.0, 2.0], 1, {"params": -1.0})
    reader.close()


def test_a_driver_refuses_tables_that_it_does_not_know(tmp_path, monkeypatch):
    made = Store.create(sqlite_url(tmp_path), "study", OBJECTIVES)
    monkeypatch.setattr(optuna_tables, "KNOWN_SCHEMAS", set())
    with pytest.raises(Conflict, match="cannot write"):
        join(made.database, "study", 1)
    made.close()


def test_optuna_is_told_what_the_objectives_are_called(tmp_path):
    Store.create(sqlite_url(tmp_path), "study", OBJECTIVES).close()
    study = optuna.load_study(study_name="study", storage=sqlite_url(tmp_path))
    assert study.metric_names == ["val_loss", "params"]


def disk(point: str, kind: str, device: str = "/dev/sda1") -> SimpleNamespace:
    return SimpleNamespace(mountpoint=point, fstype=kind, device=device)


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        ([("", "ext4"), ("shared", "nfs4")], "nfs4"),
        ([("shared", "ext4"), ("shared", "nfs4")], "nfs4"),
        ([("shared", "nfs4"), ("shared", "ext4")], ""),
        ([("shared", "new_network_disk", "server:/export")], "new_network_disk"),
        ([("shared", "zfs", "pool/data@snapshot")], ""),
    ],
)
def test_a_network_file_system_is_seen_through_links_and_under_other_mounts(tmp_path, monkeypatch, mounts, found):
    (tmp_path / "shared" / "study").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "shared")
    made = [disk(str(tmp_path / point), *rest) for point, *rest in mounts]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: made)
    assert network_file_system(tmp_path / "link" / "study") == found


@pytest.mark.parametrize("call", ["flock", "lockf"])
def test_locks_that_do_not_exclude_each_other_are_refused(tmp_path, monkeypatch, call):
    monkeypatch.setattr(lock.fcntl, call, lambda *arguments: None)
    with pytest.raises(OutOfReach, match="locks of this file system") as caught, lock.driver_lock(tmp_path):
        pass
    assert "two holders" in caught.value.detail
    assert [path.name for path in tmp_path.iterdir()] == []


def test_looking_whether_a_study_runs_makes_nothing_and_hinders_no_driver(tmp_path):
    assert not lock.is_running(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / lock.LOCK).write_text("somebody's")
    with lock.driver_lock(tmp_path):
        assert lock.is_running(tmp_path)
    assert (tmp_path / lock.LOCK).read_text() == "somebody's"
