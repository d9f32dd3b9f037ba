"""A launch: what it refuses, what it stores, and a real search end to end."""

import fcntl
import json
import os
import stat
import time
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from nas.errors import Conflict, DataError, OutOfReach, UsageError
from nas.measurement import TimedMetrics
from nas.running import driver, measuring, opening, ray_start
from nas.running import stop_control as control
from nas.running.budget import End
from nas.running.driver import Launch
from nas.running.placement import resolve_device
from nas.running.stop_control import request_stop
from nas.study import study_rows
from nas.study.database import sqlite_url
from nas.study.drivers import Drivers, StopRequest
from nas.study.leases import join
from nas.study.lock import is_running
from nas.study.stored_study import StoredStudy, open_study
from nas.study.transactions import Database
from nas.tasks.coders import Subwords
from nas.tasks.language_modelling import LanguageModelling
from nas.training.model_folder import read_tensors
from tests.running.tables import settings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_search")]
SERIAL = Launch(executor="serial")
TINY = (
    "space.hidden=[16,32]",
    "space.depth=[1,2]",
    'space.attention=[{kind="softmax",heads=[1,2,4],kv_heads=[1,"half","all"]}]',
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


def tiny(corpus: str, *overrides: str):
    return settings(*TINY, corpus, *overrides)


def losses(study: StoredStudy):
    return [(t.number, t.architecture_id, [r.metrics["val_loss"] for r in t.rungs]) for t in study.trials()]


def test_a_search_trains_its_budget_and_measures_the_front_once_more(tmp_path, corpus):
    events = []
    result = driver.run(tiny(corpus), tmp_path / "study", SERIAL, events.append)
    record = result.study.record()
    front = result.study.front()
    assert record.trained_count() == 4
    assert front
    assert {e["trial"] for e in events if e["type"] == "remeasured"} >= {t.number for t in front}
    assert all((result.study.trial_folder(t.number) / "model.safetensors").exists() for t in front)
    kept = {int(path.name) for path in (tmp_path / "study" / "trials").iterdir()}
    assert kept == {t.number for t in front}
    assert record.data["floors"]["val"]["2-gram"]["loss"] > 0
    assert not is_running(tmp_path / "study")
    assert open_study(tmp_path / "study").to_frame().shape[0] == len(record.trials)


def test_weights_stay_while_a_later_measurement_may_still_bring_the_front(tmp_path, corpus, monkeypatch):
    """Others disturb each measurement, which puts the trial over its limit; a later launch measures it at rest."""
    times = ["prefill_ms", "decode_ms_per_token"]
    busy = {"contended": 1.0, **dict.fromkeys(times, 7.0), **{f"{name}_best": 1.4 for name in times}}
    quiet = {"contended": 0.0, **dict.fromkeys(times, 0.1)}
    objectives = 'objectives=[{metric="val_loss"},{metric="decode_ms_per_token"}]'
    limit = 'constraints=[{metric="decode_ms_per_token",max=0.5}]'
    file = tiny(corpus, objectives, limit, "search.trials=1")
    monkeypatch.setattr(measuring, "_measure", lambda *arguments: TimedMetrics(busy))
    monkeypatch.setattr(measuring, "_count", lambda *arguments: {})
    study = driver.run(file, tmp_path / "study", SERIAL).study
    weights = study.trial_folder(0) / "model.safetensors"
    assert (study.front(), weights.exists()) == ((), True)
    monkeypatch.setattr(measuring, "_measure", lambda *arguments: TimedMetrics(quiet))
    monkeypatch.setattr(measuring, "_count", lambda *arguments: {})
    study = driver.run(file, tmp_path / "study", SERIAL).study
    assert ([trial.number for trial in study.front()], weights.exists()) == ([0], True)


@pytest.fixture
def rays(monkeypatch):
    """Keeps what would be done with Ray, in place of doing it."""
    done = []

    def begin(placement, trials):
        done.append(f"begin {min(trials, placement.slots)}")
        return SimpleNamespace(close=lambda: done.append("close"))

    monkeypatch.setattr(ray_start.OwnRay, "begin", begin)
    return done


def test_ray_starts_beside_a_new_study_and_is_ended_where_its_data_is_refused(tmp_path, rays):
    (tmp_path / "short.txt").write_text("short", encoding="utf-8")
    file, events = tiny(f"task.corpus={json.dumps(str(tmp_path / 'short.txt'))}"), []
    with pytest.raises(DataError):
        driver.run(file, tmp_path / "study", Launch(executor="ray", cpus=2), events.append)
    assert (rays, events) == (["begin 2", "close"], [])
    assert not (tmp_path / "study").exists()


@pytest.mark.usefixtures("unmeasured")
def test_no_ray_starts_for_a_serial_search_or_a_study_that_is_done(tmp_path, corpus, rays):
    file = tiny(corpus, "search.trials=1")
    driver.run(file, tmp_path / "study", SERIAL)
    driver.run(file, tmp_path / "study", Launch(executor="ray"))
    assert rays == []


@pytest.mark.usefixtures("unmeasured")
def test_a_checkpoint_that_is_cut_off_is_told_and_training_starts_anew(tmp_path, corpus):
    file, folder, events = tiny(corpus, *EXACT, "search.trials=1"), tmp_path / "study", []
    whole = losses(driver.run(file, tmp_path / "whole", SERIAL).study)

    def stop_at_the_first_rung(event):
        if event["type"] == "rung":
            request_stop(folder, now=True)

    assert driver.run(file, folder, SERIAL, stop_at_the_first_rung).end is None
    (checkpoint,) = (folder / "trials" / "0").iterdir()
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    again = driver.run(file, folder, SERIAL, events.append).study
    (told,) = [event for event in events if event["type"] == "restarted"]
    assert told["trial"] == 0
    assert str(checkpoint) in told["why"]
    assert losses(again) == whole


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("shift", [-1e6, 1e6])
def test_a_clock_that_is_set_meanwhile_changes_no_time_of_the_search(tmp_path, corpus, monkeypatch, shift):
    now = time.time

    def set_the_clock(event):
        if event["type"] == "rung":
            monkeypatch.setattr(time, "time", lambda: now() + shift)

    study = driver.run(tiny(corpus, *EXACT, "search.trials=2"), tmp_path / "study", SERIAL, set_the_clock).study
    (worked,) = study.record().worked
    assert 0 < worked[1] - worked[0] < 1e5
    started = [trial.attempts[0][0] for trial in study.trials()]
    assert all(worked[0] <= moment <= worked[1] for moment in started)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_weights_are_readable_by_whom_the_umask_says(tmp_path, corpus, umask):
    before = os.umask(umask)
    try:
        study = driver.run(tiny(corpus, *EXACT, "search.trials=1"), tmp_path / "study", SERIAL).study
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in study.trial_folder(0).iterdir()}
    assert "model.safetensors" in modes
    assert set(modes.values()) == {0o666 & ~umask}


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


@pytest.mark.usefixtures("unmeasured")
def test_another_space_is_refused_with_a_difference(tmp_path, corpus):
    driver.run(tiny(corpus, "search.trials=1"), tmp_path / "study", SERIAL)
    for override, code in [
        ("space.hidden=[16]", "space-changed"),
        ("train.steps=8", "train-changed"),
        ("objectives.1.metric=prefill_ms", "objectives-changed"),
        ("constraints.0.max=20", "constraints-changed"),
        ('baselines=[{hidden=16,depth=1,attention={kind="linear"}}]', "baselines-changed"),
    ]:
        with pytest.raises(Conflict, match=r"created with (an)?other ") as caught:
            driver.run(tiny(corpus, "search.trials=1", override), tmp_path / "study", SERIAL)
        assert caught.value.code == code
        assert "stored" in caught.value.detail
    more = driver.run(tiny(corpus, "search.trials=2"), tmp_path / "study", SERIAL)
    assert more.study.record().trained_count() == 2


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("file", "option", "budget"),
    [
        ((), None, 2),
        (("search.trials=3",), None, 3),
        (("search.trials=1",), None, 2),
        ((), 3, 3),
        (("search.trials=4",), 3, 3),
    ],
    ids=["as stored", "a larger number in the file", "a smaller one", "--trials", "--trials comes first"],
)
def test_the_stored_total_stays_until_trials_or_a_larger_number_in_the_file_changes_it(
    tmp_path, corpus, file, option, budget
):
    """Created with --trials 2 from a file that says 4."""
    driver.run(tiny(corpus, *EXACT), tmp_path / "study", Launch(executor="serial", trials=2))
    events: list[dict[str, Any]] = []
    launch = Launch(executor="serial", trials=option)
    again = driver.run(tiny(corpus, *EXACT, *file), tmp_path / "study", launch, events.append)
    # Whoever signals this process ends the launch as its user would, and leaves a trial untrained.
    states = [(trial.number, trial.state, trial.reason, trial.detail) for trial in again.study.trials()]
    assert (again.end, again.signal) == (End.BUDGET, None), states
    told = [event for event in events if event["type"] == "budget"]
    assert told == ([{"type": "budget", "budget": budget, "before": 2}] if budget != 2 else [])
    record = again.study.record()
    assert (record.budget, record.trained_count()) == (budget, budget)
    with pytest.raises(UsageError, match=f"has trained {budget} trials"):
        driver.run(tiny(corpus, *EXACT), tmp_path / "study", Launch(executor="serial", trials=1))


@pytest.mark.usefixtures("unmeasured")
def test_a_lower_total_is_told(tmp_path, corpus):
    """Nothing is trained yet: the time of the first launch is over when it starts."""
    driver.run(tiny(corpus, *EXACT), tmp_path / "study", Launch(executor="serial", trials=3, seconds=0))
    events: list[dict[str, Any]] = []
    again = driver.run(tiny(corpus, *EXACT), tmp_path / "study", Launch(executor="serial", trials=1), events.append)
    assert {"type": "budget", "budget": 1, "before": 3} in events
    record = again.study.record()
    assert (record.budget, record.trained_count()) == (1, 1)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("refused", ["floors", "settings"])
def test_a_study_that_cannot_be_made_whole_leaves_nothing_that_looks_like_one(tmp_path, corpus, monkeypatch, refused):
    def full(*arguments):
        raise OutOfReach("the disk is full")

    with monkeypatch.context() as patched:
        if refused == "floors":
            patched.setattr(LanguageModelling, "floors", full)
        else:
            write = study_rows.set_attribute
            patched.setattr(
                study_rows, "set_attribute", lambda c, i, k, *rest: full() if k == "settings" else write(c, i, k, *rest)
            )
        with pytest.raises(OutOfReach, match="disk is full"):
            driver.run(tiny(corpus), tmp_path / "study", SERIAL)
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["driver.lock"]
    with pytest.raises(UsageError, match="no study"):
        open_study(tmp_path / "study")
    assert driver.run(tiny(corpus, "search.trials=1"), tmp_path / "study", SERIAL).study.record().trained_count() == 1


def test_the_end_of_the_time_stops_a_training_at_its_next_step(tmp_path, corpus, monkeypatch):
    """Time passes with the batches that are drawn: a few to measure, then one a step, all before the only rung."""
    batch, drawn = LanguageModelling.batch, []

    def draw(self, generator, size, device="cpu"):
        drawn.append(size)
        return batch(self, generator, size, device)

    monkeypatch.setattr(LanguageModelling, "batch", draw)
    monkeypatch.setattr(control, "time", SimpleNamespace(monotonic=lambda: len(drawn)))
    file = tiny(corpus, "train.steps=1000", "train.rungs=[1.0]")
    outcome = driver.run(file, tmp_path / "study", Launch(executor="serial", seconds=30))
    assert (outcome.end, outcome.signal, len(drawn)) == (None, None, 30)
    assert [trial.state for trial in outcome.study.trials()] == ["WAITING"]
    (checkpoint,) = outcome.study.trial_folder(0).iterdir()
    _, metadata = read_tensors(checkpoint)
    assert checkpoint.name == f"rung-{metadata['progress']['step']}.a1.safetensors"
    assert 20 < metadata["progress"]["step"] < 30


@pytest.mark.usefixtures("unmeasured")
def test_a_driver_that_leaves_early_writes_no_report_while_another_goes_on(tmp_path, corpus):
    file, early = tiny(corpus, *EXACT), Launch(executor="serial", trials=3, seconds=0)
    name = driver.run(file, tmp_path / "study", Launch(executor="serial", trials=1)).study.store.name
    with closing(Database(sqlite_url(tmp_path / "study"))) as database:
        other = join(database, name, 1)
        left = driver.run(file, tmp_path / "study", early)
        assert (left.end, left.closed) == (None, False)
        Drivers(other.jobs).request_stop(StopRequest.FINISH, other.driver.id)
        assert driver.run(file, tmp_path / "study", early).closed
        other.leave()
    assert driver.run(file, tmp_path / "study", early).closed


@pytest.mark.usefixtures("unmeasured")
def test_other_data_under_the_same_name_is_refused(tmp_path, corpus):
    driver.run(tiny(corpus, "search.trials=1"), tmp_path / "study", SERIAL)
    (tmp_path / "corpus.txt").write_text("another text altogether, of some length " * 60, encoding="utf-8")
    with pytest.raises(Conflict, match="other data"):
        driver.run(tiny(corpus, "search.trials=1"), tmp_path / "study", SERIAL)


@pytest.mark.usefixtures("unmeasured")
def test_another_tokenizer_in_the_same_file_is_refused(tmp_path, corpus):
    path, text = tmp_path / "tokenizer.json", "the quick brown fox jumps over the lazy dog. "
    cut = [corpus, f"task.tokenizer={json.dumps(str(path))}", "search.trials=1"]
    Subwords.learned([text], 270, ())._tokenizer.save(str(path))
    driver.run(tiny(*cut), tmp_path / "study", SERIAL)
    path.rename(tmp_path / "moved.json")
    moved = [*cut, f"task.tokenizer={json.dumps(str(tmp_path / 'moved.json'))}"]
    driver.run(tiny(*moved), tmp_path / "study", SERIAL)
    Subwords.learned([text], 280, ())._tokenizer.save(str(path))
    with pytest.raises(Conflict, match="another tokenizer"):
        driver.run(tiny(*cut), tmp_path / "study", SERIAL)


@pytest.mark.usefixtures("unmeasured")
def test_other_hardware_is_refused_where_time_is_compared(tmp_path, corpus, monkeypatch):
    driver.run(tiny(corpus, "search.trials=1"), tmp_path / "timed", SERIAL)
    driver.run(tiny(corpus, "search.trials=1", *EXACT), tmp_path / "exact", SERIAL)
    elsewhere = opening.environment() | {"cpu": "another processor"}
    monkeypatch.setattr(opening, "environment", lambda: elsewhere)
    with pytest.raises(Conflict, match="other hardware"):
        driver.run(tiny(corpus, "search.trials=1"), tmp_path / "timed", SERIAL)
    driver.run(tiny(corpus, "search.trials=1", *EXACT), tmp_path / "exact", SERIAL)


@pytest.mark.usefixtures("unmeasured")
def test_a_second_driver_shares_the_study_and_one_of_an_earlier_version_does_not(tmp_path, corpus):
    folder, file = tmp_path / "study", tiny(corpus, *EXACT, "search.trials=1")
    with driver.driver_lock(folder):
        assert is_running(folder)
        assert driver.run(file, folder, SERIAL).end is End.BUDGET
        with (folder / "driver.lock").open() as earlier, pytest.raises(BlockingIOError):
            fcntl.flock(earlier, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (folder / "driver.lock").open() as earlier:
        fcntl.flock(earlier, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="earlier version"):
            driver.run(file, folder, SERIAL)


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
