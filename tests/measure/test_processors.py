"""CPUs that the process may not use are not counted."""

import os

import psutil
import pytest
import torch

from nas.measure import available_cpus, processors
from nas.measure.contention import LoadWatch
from nas.running.placement import place
from tests.running.tables import settings


def machine(tmp_path, membership: str, files: dict[str, str]):
    """Folders that look like /proc and /sys/fs/cgroup."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "proc", tmp_path / "cgroup"


@pytest.mark.parametrize(
    ("membership", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 8),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/elsewhere/on/the/host\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/../x\n", {"cpu.max": "400000 100000\n"}, 4),
        (
            "4:memory:/\n3:cpu,cpuacct:/\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"},
            3,
        ),
        ("1:cpu:/job\n", {"cpu/job/cpu.cfs_quota_us": "250000", "cpu/job/cpu.cfs_period_us": "50000"}, 5),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("1:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("0::/\n", {"cpu.max": "what is this"}, 8),
        ("0::/\n", {"cpu.max": "0 0"}, 8),
        ("", {}, 8),
    ],
)
def test_the_smaller_of_affinity_and_quota_counts(tmp_path, monkeypatch, membership, files, cpus):
    monkeypatch.setattr(processors, "usable_cpus", lambda: frozenset(range(8)))
    assert available_cpus(*machine(tmp_path, membership, files)) == cpus


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to CPUs")
def test_a_process_bound_to_one_cpu_runs_one_trial_at_a_time(tmp_path):
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cpus(tmp_path, tmp_path) == 1
        placement = place(settings('resources.device="cpu"'))
    finally:
        os.sched_setaffinity(0, before)
    assert (placement.cpus, placement.slots) == (1.0, 1)


def test_load_on_cpus_that_the_process_may_not_use_disturbs_nothing(monkeypatch):
    """Of two CPUs, the second is kept busy by others for ten seconds while we measure on the first."""

    class Times:
        def __init__(self, user):
            self.user = user

    told = iter([[Times(0.0), Times(0.0)], [Times(0.0), Times(10.0)]] * 2)
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: next(told))
    for usable, contended in (({0}, False), ({0, 1}, True)):
        monkeypatch.setattr(processors, "usable_cpus", lambda usable=usable: frozenset(usable))
        with LoadWatch(torch.device("cpu")) as load:
            pass
        assert load.contended is contended
