"""A launch: what it refuses, what it stores, and a real search end to end."""

import json
from types import SimpleNamespace

import psutil
import pytest
import torch

from nas.errors import Conflict, OutOfReach, UsageError
from nas.search import driver
from nas.search.control import request_stop
from nas.search.driver import Launch
from nas.search.resources import resolve_device
from nas.search.study import Study, is_running, open_study
from tests.search.tables import settings

SERIAL = Launch(executor="serial")
TINY = (
    "space.hidden=[16,32]",
    "space.depth=[1,2]",
    "baselines=[]",
    "train.steps=6",
    "train.batch=4",
    "train.evaluation_tokens=512",
    "task.context=16",
    "measure.prompt=8",
    "measure.repeats=3",
    "search.trials=4",
)
EXACT = ('objectives=[{metric="val_loss"},{metric="flops_per_token"},{metric="weights_mib"}]', "constraints=[]")


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    return f"task.corpus={json.dumps(str(path))}"


def tiny(corpus: str, *overrides: str):
    return settings(*TINY, corpus, *overrides)


def losses(study: Study):
    return [(t.number, t.architecture_id, [r.metrics["val_loss"] for r in t.rungs]) for t in study.trials()]


def test_a_search_trains_its_budget_and_measures_the_front_once_more(tmp_path, corpus):
    events = []
    result = driver.run(tiny(corpus), tmp_path / "study", SERIAL, events.append)
    record = result.study.record()
    front = result.study.front()
    assert record.trained() == 4
    assert front
    assert {e["trial"] for e in events if e["type"] == "remeasured"} >= {t.number for t in front}
    assert all((result.study.trial_folder(t.number) / "model.safetensors").exists() for t in front)
    kept = {int(path.name) for path in (tmp_path / "study" / "trials").iterdir()}
    assert kept == {t.number for t in front}
    assert record.data["floors"]["val"]["2-gram"] > 0
    assert not is_running(tmp_path / "study")
    assert open_study(tmp_path / "study").to_frame().shape[0] == len(record.trials)


def test_deterministic_objectives_repeat_exactly_interrupted_or_not(tmp_path, corpus):
    file = tiny(corpus, *EXACT)
    once = losses(driver.run(file, tmp_path / "a", SERIAL).study)
    assert losses(driver.run(file, tmp_path / "b", SERIAL).study) == once

    def stop_in_the_second_trial(event):
        if event["type"] == "rung" and event["trial"] == 1:
            request_stop(tmp_path / "c", now=True)

    assert driver.run(file, tmp_path / "c", SERIAL, stop_in_the_second_trial).end is None
    assert [t.state for t in open_study(tmp_path / "c").trials()] == ["COMPLETE", "WAITING"]
    assert losses(driver.run(file, tmp_path / "c", SERIAL).study) == once


def test_another_space_is_refused_with_a_difference(tmp_path, corpus):
    driver.run(tiny(corpus, "search.trials=1"), tmp_path / "study", SERIAL)
    for override, code in [("space.hidden=[16]", "space-changed"), ("train.steps=8", "train-changed")]:
        with pytest.raises(Conflict) as caught:
            driver.run(tiny(corpus, "search.trials=1", override), tmp_path / "study", SERIAL)
        assert caught.value.code == code
        assert "stored" in caught.value.detail
    more = driver.run(tiny(corpus, "search.trials=2"), tmp_path / "study", SERIAL)
    assert more.study.record().trained() == 2


def test_other_data_under_the_same_name_is_refused(tmp_path, corpus):
    driver.run(tiny(corpus, "search.trials=1"), tmp_path / "study", SERIAL)
    (tmp_path / "corpus.txt").write_text("another text altogether, of some length " * 60, encoding="utf-8")
    with pytest.raises(Conflict, match="other data"):
        driver.run(tiny(corpus, "search.trials=1"), tmp_path / "study", SERIAL)


def test_other_hardware_is_refused_where_time_is_compared(tmp_path, corpus, monkeypatch):
    driver.run(tiny(corpus, "search.trials=1"), tmp_path / "timed", SERIAL)
    driver.run(tiny(corpus, "search.trials=1", *EXACT), tmp_path / "exact", SERIAL)
    elsewhere = driver.environment() | {"cpu": "another processor"}
    monkeypatch.setattr(driver, "environment", lambda: elsewhere)
    with pytest.raises(Conflict, match="other hardware"):
        driver.run(tiny(corpus, "search.trials=1"), tmp_path / "timed", SERIAL)
    driver.run(tiny(corpus, "search.trials=1", *EXACT), tmp_path / "exact", SERIAL)


def test_a_second_driver_is_refused(tmp_path, corpus):
    with driver.driver_lock(tmp_path / "study"):
        assert is_running(tmp_path / "study")
        with pytest.raises(Conflict, match="another driver"):
            driver.run(tiny(corpus), tmp_path / "study", SERIAL)


def test_a_folder_that_cannot_be_made_is_out_of_reach(tmp_path, corpus):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutOfReach, match="cannot be written"):
        driver.run(tiny(corpus), tmp_path / "file" / "study", SERIAL)


def test_network_file_systems_are_refused(tmp_path, corpus, monkeypatch):
    mount = SimpleNamespace(mountpoint=str(tmp_path), fstype="nfs4")
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [mount])
    with pytest.raises(OutOfReach, match="network file system"):
        driver.run(tiny(corpus), tmp_path / "study", SERIAL)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the rules for a machine without a GPU")
def test_gpus_that_are_not_there_are_an_error_unless_they_are_logical():
    for overrides, gpus in [((), 4.0), (('resources.device="cuda"',), 4.0), (('resources.device="cuda"',), None)]:
        with pytest.raises(UsageError, match="no GPU"):
            resolve_device(settings(*overrides), gpus)
    assert resolve_device(settings('resources.device="cpu"'), 4.0) == ("cpu", 4.0)
    assert resolve_device(settings("resources.gpus_per_trial=0.5"), None) == ("cpu", 0.0)
