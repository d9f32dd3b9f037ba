"""Foreign load is noticed; so is a machine below its pace."""

import os
import subprocess
import sys
import time

import pytest
import torch

from nas.measure.contention import LoadWatch, foreign_cores
from nas.measure.nvidia import foreign
from nas.measure.pace import Pace


@pytest.mark.parametrize(
    ("wall", "busy", "own", "cores"),
    [
        (1.0, 1.0, 1.0, 0.0),  # all ours
        (1.0, 1.52, 1.0, 0.5),  # two ticks forgiven
        (0.5, 1.52, 0.5, 2.0),
        (0.1, 0.11, 0.1, 0.0),  # one tick over is rounding
        (1.0, 0.4, 0.5, 0.0),  # never below nothing
    ],
)
def test_foreign_load_is_the_machines_busy_time_less_ours(wall, busy, own, cores):
    assert foreign_cores(wall, busy, own) == pytest.approx(cores, abs=1e-6)


@pytest.mark.slow
def test_a_process_that_spins_beside_us_is_noticed():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as spinner:
        try:
            with LoadWatch(torch.device("cpu")) as load:
                time.sleep(0.5)
        finally:
            spinner.kill()
    assert load.contended


def test_on_a_gpu_all_processes_but_ours_count_at_their_highest():
    samples = [(1, 0.2), (1, 0.5), (2, 0.1), (3, 0.3)]
    assert foreign(samples, own_pid=3) == pytest.approx(0.6)
    # In a container our number is another one: the busiest is taken for us.
    assert foreign(samples, own_pid=99) == pytest.approx(0.4)
    assert foreign([], own_pid=1) == 0


def test_the_best_pace_is_shared_through_the_folder(tmp_path):
    first = Pace(tmp_path)
    loop_ns = first.loop_ns()
    assert first.full(loop_ns)
    assert first.best_ns == loop_ns > 0
    first.remember()
    assert Pace(tmp_path).best_ns == loop_ns


def test_a_slower_loop_is_less_than_full_pace(tmp_path):
    pace = Pace(tmp_path)
    pace.best_ns = 100
    assert pace.full(110)
    assert not pace.full(160)


def test_a_pace_that_was_long_not_reached_is_forgotten(tmp_path):
    pace = Pace(tmp_path)
    pace.best_ns = 1
    pace.remember()
    (stored,) = tmp_path.iterdir()
    for shift in (-3600, 3600):  # long ago, and by a clock that has been set back since
        os.utime(stored, (time.time() + shift, time.time() + shift))
        assert Pace(tmp_path).best_ns == float("inf")


@pytest.mark.parametrize("text", ["", "fast", "0", "-5", "nan", "-inf", "1e-300", "9" * 200])
def test_a_spoilt_pace_file_is_ignored(tmp_path, text):
    pace = Pace(tmp_path)
    pace.remember()
    (stored,) = tmp_path.iterdir()
    stored.write_text(text)
    assert Pace(tmp_path).best_ns == float("inf")
