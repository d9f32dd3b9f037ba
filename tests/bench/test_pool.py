"""Trainings side by side: their results, and what is left of them when somebody dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nas.bench.pool import side_by_side
from nas.errors import NasError


def doubled(number: int) -> int:
    return 2 * number


def killed(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def wait_for_the_end(place: str) -> str:
    """Says who it is, then never ends by itself."""
    (Path(place) / str(os.getpid())).touch()
    while True:
        time.sleep(1)


def test_every_task_is_told_with_its_result():
    assert sorted(side_by_side(doubled, [1, 2, 3], 2)) == [(1, 2), (2, 4), (3, 6)]
    assert list(side_by_side(doubled, [], 2)) == []


def test_a_process_that_dies_is_an_error():
    with pytest.raises(NasError, match="a process of the benchmark died"):
        list(side_by_side(killed, [1], 1))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, -2)])
def test_nothing_is_left_of_a_benchmark_that_is_killed(tmp_path, number, code):
    lines = f"""
        from nas.bench.pool import side_by_side
        from tests.bench.test_pool import wait_for_the_end
        if __name__ == "__main__":
            list(side_by_side(wait_for_the_end, [{str(tmp_path)!r}] * 2, 2))
    """
    script = tmp_path / "bench.py"
    script.write_text("\n".join(line[8:] for line in lines.splitlines()), encoding="utf-8")
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(root)}, stderr=subprocess.DEVNULL
    )
    while len(started := [path for path in tmp_path.iterdir() if path.name.isdigit()]) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    workers = [psutil.Process(int(path.name)) for path in started]
    process.send_signal(number)
    assert process.wait(60) == code
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
