"""Trials that several processes train together: what is placed and refused, and a search that uses them."""

import json

import psutil
import pytest

from nas.errors import UsageError
from nas.measurement import TimedMetrics
from nas.running import driver, measuring
from nas.running import trial as trials
from nas.running.driver import Launch
from nas.running.events import Failed
from nas.running.placement import place, rank_devices, threads_of
from nas.running.trial import event_of
from nas.training.ranks import RankLost
from tests.running.tables import cheap, settings

TWO = ("resources.processes_per_trial=2", "resources.cpus_per_trial=2", 'resources.device="cpu"')


@pytest.mark.parametrize(
    ("overrides", "device", "devices", "threads"),
    [
        ((), "cpu", ("cpu",), 1),
        (("resources.cpus_per_trial=4",), "cpu", ("cpu",), 4),
        (("resources.cpus_per_trial=5", "resources.processes_per_trial=2"), "cpu", ("cpu", "cpu"), 2),
        (("resources.gpus_per_trial=0.5",), "cuda", ("cuda",), 1),
        (("resources.gpus_per_trial=2", "resources.cpus_per_trial=4"), "cuda", ("cuda:0", "cuda:1"), 2),
        (("resources.gpus_per_trial=2",), "cuda:1", ("cuda:1",), 1),
        (("resources.gpus_per_trial=2",), "cpu", ("cpu",), 1),
        (("resources.gpus_per_trial=2", "resources.processes_per_trial=1"), "cuda", ("cuda",), 1),
    ],
)
def test_each_whole_gpu_has_a_process_and_the_cpu_as_many_as_are_asked_for(overrides, device, devices, threads):
    file = settings(*overrides)
    assert rank_devices(file, device) == devices
    assert threads_of(file, device) == threads


@pytest.mark.parametrize(
    ("overrides", "device", "told"),
    [
        (("resources.processes_per_trial=2",), "cpu", "1 CPUs"),
        (("resources.processes_per_trial=3", "resources.gpus_per_trial=2"), "cuda", "2 GPUs"),
        (("resources.gpus_per_trial=4", "train.batch=3"), "cuda", "3 examples a step"),
    ],
)
def test_processes_that_have_nothing_to_share_are_refused(overrides, device, told):
    with pytest.raises(UsageError, match=told) as caught:
        rank_devices(settings(*overrides), device)
    assert (caught.value.code, caught.value.where) == ("processes", "resources.processes_per_trial")


def test_a_launch_refuses_them_before_anything_runs():
    with pytest.raises(UsageError, match="1 CPUs"):
        place(settings('resources.device="cpu"', "resources.processes_per_trial=2"), cpus=2)


def test_a_body_of_ones_own_starts_its_own_processes(tmp_path):
    with pytest.raises(UsageError, match="starts processes of its own"):
        driver.run(settings(*TWO), tmp_path / "study", Launch(executor="serial"), body=lambda trial: iter(()))


def test_a_lost_process_is_an_error_and_one_without_memory_is_oom():
    assert event_of(RankLost("lost")) == Failed("error", "error[rank-lost]: lost")
    assert event_of(MemoryError("rank 1 of 2")) == Failed("oom", "rank 1 of 2")


@pytest.mark.slow
def test_a_search_in_two_processes_finds_what_one_finds_and_leaves_none_behind(tmp_path, monkeypatch, quick_search):
    monkeypatch.setattr(
        measuring, "_measure", lambda a, *rest: TimedMetrics({**cheap(a), "prefill_ms": 1.0, "contended": 0.0})
    )
    monkeypatch.setattr(measuring, "_count", lambda *arguments: {})
    path = tmp_path / "corpus.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    small = (
        *("space.hidden=[16,32]", "space.depth=1", "baselines=[]", "train.steps=4", "train.batch=4"),
        *("train.evaluation_tokens=256", "task.context=16", "measure.prompt=8", "search.trials=2"),
        *('objectives=[{metric="val_loss"},{metric="weights_mib"}]', "constraints=[]"),
        f"task.corpus={json.dumps(str(path))}",
    )
    found = []
    for overrides in ((), TWO):
        started = set[int]()
        starting = trials.DataParallel._launched

        def launched(self, rank, folder, starting=starting, started=started):
            process = starting(self, rank, folder)
            started.add(process.pid)
            return process

        monkeypatch.setattr(trials.DataParallel, "_launched", launched)
        file = settings(*small, 'search.sampler="random"', *overrides)
        outcome = driver.run(file, tmp_path / f"study-{len(found)}", Launch(executor="serial", cpus=2))
        found.append([t.metrics["val_loss"] for t in outcome.study.trials()])
        # Both trials had the same process, and it has ended.
        assert len(started) == (1 if overrides else 0)
        assert not any(psutil.pid_exists(pid) for pid in started)
    assert found[1] == pytest.approx(found[0], abs=1e-5)
