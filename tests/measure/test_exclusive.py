"""The lock between processes: trainers run side by side, a measurer runs alone, and the dead hold nothing."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nas.errors import OutOfReach, UsageError
from nas.measure import DeviceLock

TRAINER = """
import sys, time
from pathlib import Path
from nas.measure import DeviceLock
lock, steps = DeviceLock("cpu", Path(sys.argv[1])), open(sys.argv[2], "ab", buffering=0)
while True:
    with lock.training_step() as waited:
        if waited:
            open(sys.argv[2] + ".waited", "wb").close()
        time.sleep(0.002)
        steps.write(b".")
"""
HOLDER = """
import sys, time
from pathlib import Path
from nas.measure import DeviceLock
with DeviceLock("cpu", Path(sys.argv[1])).measuring():
    print("held", flush=True)
    time.sleep(600)
"""


def until(condition: Callable[[], bool]) -> None:
    """Poll; pytest's own time limit ends a wait in vain."""
    while not condition():
        time.sleep(0.005)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def start(script: str, *arguments: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()


@pytest.mark.slow
def test_a_measurer_gets_in_and_trainers_pause_until_it_leaves(tmp_path):
    steps = [tmp_path / "a", tmp_path / "b"]
    trainers = [start(TRAINER, tmp_path, path) for path in steps]
    try:
        until(lambda: all(size(path) > 3 for path in steps))
        with DeviceLock("cpu", tmp_path).measuring():
            before = [size(path) for path in steps]
            time.sleep(0.1)
            assert [size(path) for path in steps] == before
        until(lambda: all(size(path) > n + 3 for path, n in zip(steps, before, strict=True)))

        def told() -> bool:
            with DeviceLock("cpu", tmp_path).measuring():
                time.sleep(0.02)
            return all(path.with_suffix(".waited").exists() for path in steps)

        until(told)
    finally:
        for trainer in trainers:
            end(trainer)


@pytest.mark.slow
def test_the_kernel_frees_what_a_killed_measurer_held(tmp_path):
    holder, stepped = start(HOLDER, tmp_path), threading.Event()

    def step() -> None:
        with DeviceLock("cpu", tmp_path).training_step() as waited:
            assert waited > 0
            stepped.set()

    try:
        assert holder.stdout.readline() == "held\n"
        trainer = threading.Thread(target=step)
        trainer.start()
        assert not stepped.wait(0.1)
    finally:
        end(holder)
    trainer.join()
    assert stepped.is_set()
    with DeviceLock("cpu", tmp_path).measuring() as waited:
        assert waited == 0


def test_measurers_queue(tmp_path):
    order = []

    def measure() -> None:
        with DeviceLock("cpu", tmp_path).measuring():
            order.append("second in")

    second = threading.Thread(target=measure)
    with DeviceLock("cpu", tmp_path).measuring():
        second.start()
        second.join(0.05)
        order.append("first out")
    second.join()
    assert order == ["first out", "second in"]


def test_steps_of_several_trainers_run_side_by_side(tmp_path):
    one, other = DeviceLock("cpu", tmp_path), DeviceLock("cpu", tmp_path)
    with one.training_step() as first, other.training_step() as second:
        assert first == second == 0


def test_an_error_inside_frees_the_lock(tmp_path):
    lock = DeviceLock("cpu", tmp_path)
    for enter in (lock.training_step, lock.measuring):
        with pytest.raises(ZeroDivisionError), enter():
            raise ZeroDivisionError
    with DeviceLock("cpu", tmp_path).measuring() as waited:
        assert waited == 0


def test_entering_a_held_lock_again_is_refused(tmp_path):
    lock = DeviceLock("cpu", tmp_path)
    with lock.measuring(), pytest.raises(RuntimeError, match="already held"), lock.training_step():
        pass


def test_gpus_are_told_apart_by_uuid_not_by_number(tmp_path, monkeypatch):
    uuids = ["aaaa", "bbbb"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(uuids))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=uuids[device.index or 0])
    )
    first, second = DeviceLock("cuda:0", tmp_path), DeviceLock("cuda:1", tmp_path)
    with first.measuring(), second.measuring() as waited:
        assert waited == 0
    uuids.reverse()
    entered = threading.Event()

    def step() -> None:
        with DeviceLock("cuda:1", tmp_path).training_step():
            entered.set()

    trainer = threading.Thread(target=step)
    with first.measuring():
        trainer.start()
        assert not entered.wait(0.05)
    trainer.join()


@pytest.mark.parametrize("device", ["tpu:0", "gpu", "meta"])
def test_an_unknown_device_is_refused(device, tmp_path):
    with pytest.raises(UsageError, match=f"unknown device '{device}'"):
        DeviceLock(device, tmp_path)


def test_a_gpu_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"cuda:3.* sees 0 GPUs"):
        DeviceLock("cuda:3", tmp_path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OutOfReach, match="cannot open a lock file") as caught:
        DeviceLock("cpu", file / "folder")
    assert "TMPDIR" in caught.value.render()
