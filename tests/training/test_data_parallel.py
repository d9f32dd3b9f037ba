"""Data-parallel training over processes on the CPU: equal to one process, resumable, and never left hanging."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from nas.settings.study_settings import TrainSettings
from nas.tasks import Task, open_task
from nas.training.data_parallel import DataParallel
from nas.training.ranks import RankLost
from nas.training.trainer import Diverged, TimeLimit, Trainer, TrainingInterrupted
from tests.training.small_tasks import learners, settings_of

pytestmark = pytest.mark.slow
SETTINGS = TrainSettings(steps=6, batch=5, rungs=(0.5, 1.0), evaluation_tokens=128)
KIND = "translation"
"""Examples of this task count differently, so shares of a batch weigh differently."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="module")
def task(folder: Path) -> Task:
    return open_task(settings_of(KIND, folder))


@pytest.fixture(scope="module")
def two(folder: Path) -> Iterator[DataParallel]:
    """One team of two processes for all tests that leave it whole, since starting one takes seconds."""
    team = DataParallel(settings_of(KIND, folder), ("cpu", "cpu"))
    yield team
    team.close()


def trainer(task: Task, settings: TrainSettings = SETTINGS, **rest) -> Trainer:
    return Trainer(learners(KIND)[0], task, settings, **{"seed": 0, **rest})


def finish(run: Trainer) -> list[float]:
    while not run.done:
        run.run_to_next_rung()
    return [rung.metrics["val_loss"] for rung in run.rungs]


def others(team: DataParallel) -> list[psutil.Process]:
    return [psutil.Process(process.pid) for process in team._processes]


def after(steps: int) -> Callable[[], bool]:
    asked = iter(range(10**6))
    return lambda: next(asked) >= steps


def test_two_processes_train_as_one(task, two):
    assert finish(trainer(task, parallel=two)) == pytest.approx(finish(trainer(task)), abs=1e-5)


def test_an_interrupted_training_of_two_processes_ends_as_the_uninterrupted_one(task, two, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    whole = finish(trainer(task, parallel=two))
    with pytest.raises(TrainingInterrupted):
        finish(trainer(task, parallel=two, checkpoint=path, should_stop=after(4)))
    resumed = trainer(task, parallel=two, checkpoint=path)
    assert resumed.step == 4
    assert finish(resumed) == whole


def test_a_checkpoint_of_two_processes_is_continued_by_one(task, two, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    trainer(task, parallel=two, checkpoint=path).run_to_next_rung()
    assert finish(trainer(task, checkpoint=path)) == pytest.approx(finish(trainer(task)), abs=1e-5)


def test_parts_and_processes_go_together(task, two):
    parts = SETTINGS.model_copy(update={"micro_batch": 1})
    assert finish(trainer(task, parts, parallel=two)) == pytest.approx(finish(trainer(task)), abs=1e-5)


def test_three_processes_stay_within_their_shares(folder, task):
    """Five examples are shares of one, two and two."""
    team = DataParallel(settings_of(KIND, folder), ("cpu",) * 3)
    try:
        assert finish(trainer(task, parallel=team)) == pytest.approx(finish(trainer(task)), abs=1e-5)
    finally:
        team.close()


def test_limits_and_divergence_leave_the_other_process_ready_for_the_next_training(task, two):
    with pytest.raises(TimeLimit):
        finish(trainer(task, SETTINGS.model_copy(update={"time_limit": 1e-9}), parallel=two))
    diverging = TrainSettings(steps=6, batch=5, rungs=(1.0,), optimiser="adamw", learning_rate=(900.0,), clip=1000)
    with pytest.raises(Diverged):
        finish(trainer(task, diverging, parallel=two))
    before = others(two)
    assert finish(trainer(task, parallel=two)) == pytest.approx(finish(trainer(task)), abs=1e-5)
    assert others(two) == before


def test_a_killed_process_ends_the_training_with_an_error_and_the_next_starts_anew(task, folder, monkeypatch):
    team = DataParallel(settings_of(KIND, folder), ("cpu", "cpu"))
    try:
        run = trainer(task, parallel=team)
        run.run_to_next_rung()
        (other,) = others(team)
        other.kill()
        with pytest.raises(RankLost, match="rank 1 of 2 ended with -9"):
            run.run_to_next_rung()
        assert not team._processes
        assert finish(trainer(task, parallel=team)) == pytest.approx(finish(trainer(task)), abs=1e-5)
        # A wait on a GPU ends in an error of another kind.
        run = trainer(task, parallel=team)
        run.run_to_next_rung()

        def aborted() -> None:
            others(team)[0].kill()
            team._processes[0].wait()
            raise RuntimeError("NCCL communicator was aborted")

        monkeypatch.setattr(run.stepper, "take", aborted)
        with pytest.raises(RankLost, match="rank 1 of 2 ended with -9"):
            run.run_to_next_rung()
    finally:
        team.close()


def test_signals_that_stop_a_search_do_not_reach_the_other_process(task, two):
    run = trainer(task, parallel=two)
    run.run_to_next_rung()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(others(two)[0].pid, number)
    finish(run)


def test_an_error_of_the_leading_process_ends_the_others(folder, task, monkeypatch):
    team = DataParallel(settings_of(KIND, folder), ("cpu", "cpu"))
    run = trainer(task, parallel=team)
    run.run_to_next_rung()
    (other,) = others(team)

    def fails() -> None:
        raise MemoryError

    monkeypatch.setattr(run.stepper.optimiser, "step", fails)
    with pytest.raises(MemoryError):
        run.run_to_next_rung()
    assert not other.is_running()


def test_an_error_of_the_other_process_is_told(task, folder, tmp_path):
    """Its data is gone when it opens them."""
    place = tmp_path / "moved"
    place.mkdir()
    told = settings_of(KIND, place)
    (place / f"{KIND}.jsonl").unlink()
    team = DataParallel(told, ("cpu", "cpu"))
    with pytest.raises(RankLost, match="rank 1 of 2 failed") as caught:
        finish(trainer(task, parallel=team))
    assert "moved" in caught.value.detail
    assert not team._processes


PROGRAM = """
import sys, time
from pathlib import Path
from tests.training.small_tasks import learners, settings_of
from nas.tasks import open_task
from nas.settings.study_settings import TrainSettings
from nas.training.data_parallel import DataParallel
from nas.training.trainer import Trainer

settings = settings_of("translation", Path(sys.argv[1]))
team = DataParallel(settings, ("cpu", "cpu"))
train = TrainSettings(steps=10**6, batch=4)
run = Trainer(learners("translation")[0], open_task(settings), train, seed=0, parallel=team)
run.should_stop = lambda: print(team._processes[0].pid if team._processes else 0, flush=True)
run.run_to_next_rung()
"""


def test_no_process_outlives_a_leading_one_that_is_killed(tmp_path):
    leading = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert leading.stdout
    pid = 0
    while not pid:
        pid = int(leading.stdout.readline())
    other = psutil.Process(pid)
    folder = Path(next(file.path for file in other.open_files() if "said-1" in file.path)).parent
    leading.kill()
    leading.wait()
    leading.stdout.close()
    other.wait(timeout=60)
    deadline = time.monotonic() + 10
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()


def test_a_text_is_learned_alike_by_every_family_that_reads_it(folder):
    """By the loss at the first rung; the gradients of every task and family are compared in test_gradients."""
    chosen, settings = settings_of("language_modelling", folder), TrainSettings(steps=4, batch=5, evaluation_tokens=64)
    task, team = open_task(chosen), DataParallel(chosen, ("cpu", "cpu"))
    try:
        for architecture in learners("language_modelling"):
            one = Trainer(architecture, task, settings, seed=0).run_to_next_rung()
            apart = Trainer(architecture, task, settings, seed=0, parallel=team).run_to_next_rung()
            assert apart.metrics["val_loss"] == pytest.approx(one.metrics["val_loss"], abs=1e-5)
    finally:
        team.close()
