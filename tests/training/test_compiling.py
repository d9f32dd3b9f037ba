"""Compiling: decided by what it costs and saves, measured once, stored with the training, and learning the same."""

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from nas import files
from nas.errors import UsageError
from nas.settings.study_settings import TrainSettings
from nas.tasks import Task, open_task
from nas.training import compiling, execution
from nas.training.compiling import Speed
from nas.training.execution import compiler, require_compiler
from nas.training.stepper import Stepper
from nas.training.trainer import Trainer
from tests.training.small_tasks import learners, settings_of

SETTINGS = TrainSettings(steps=20, batch=4, rungs=(0.1, 0.2, 1.0), evaluation_tokens=64)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return open_task(settings_of("language_modelling", tmp_path_factory.mktemp("corpus")))


@pytest.fixture
def stepper(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stepper:
    """A training that takes itself to be on a GPU, with a cache of its own."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    monkeypatch.setattr(compiling, "can_compile", lambda device: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: type("Card", (), {"name": "Card"}))
    found = Stepper(learners("language_modelling")[0], task, SETTINGS, seed=0)
    found.device = "cuda"
    return found


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Says of each copy that is timed whether it is compiled. Plain steps take 100 ms, compiled ones 60 ms."""
    asked = list[bool]()

    def times(copy: Stepper, turn: object) -> tuple[float, float]:
        asked.append(copy.execution.compiled)
        return (20.18, 60.0) if copy.execution.compiled else (0.3, 100.0)

    monkeypatch.setattr(compiling, "_timed", times)
    monkeypatch.setattr(Stepper, "anew", lambda self, settings: Stepper.__new__(Stepper))
    monkeypatch.setattr(compiling, "USUAL_SECONDS", 10.0)
    return asked


def steps(stepper: Stepper, count: int) -> Stepper:
    stepper.settings = SETTINGS.model_copy(update={"steps": count})
    return stepper


@pytest.mark.parametrize(("steps", "pays"), [(499, False), (501, True)])
def test_it_pays_where_the_steps_win_back_the_seconds(steps, pays):
    assert Speed(compile_seconds=20.0, plain_ms=100.0, compiled_ms=60.0).pays(steps) is pays


def test_a_shape_is_measured_once_and_remembered(stepper, timed, tmp_path):
    assert not compiling.pays(steps(stepper, 400), 1, nullcontext)
    assert timed == [False, True]
    assert compiling.pays(steps(stepper, 600), 1, nullcontext)
    assert timed == [False, True]
    (path,) = (tmp_path / "compiled").iterdir()
    assert files.read_json(path)["compile_seconds"] == pytest.approx(20.0)
    path.write_text("damaged")
    assert compiling.pays(stepper, 1, nullcontext)
    assert compiling.pays(stepper, 2, nullcontext)
    assert timed == [False, True] * 3


def test_what_cannot_pay_is_not_tried(stepper, timed, tmp_path):
    """Half of 100 ms saved in each of 199 steps is less than the ten seconds that compiling usually takes."""
    assert not compiling.pays(steps(stepper, 199), 1, nullcontext)
    assert timed == [False]
    assert not (tmp_path / "compiled").exists()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("no such operator")])
def test_a_model_that_does_not_compile_stays_as_it_is(stepper, timed, monkeypatch, error):
    times = compiling._timed

    def fails(copy: Stepper, turn: object) -> tuple[float, float]:
        if copy.execution.compiled:
            raise error
        return times(copy, turn)

    monkeypatch.setattr(compiling, "_timed", fails)
    assert not compiling.pays(steps(stepper, 10**6), 1, nullcontext)


def test_the_cpu_compiles_only_when_told(task, monkeypatch):
    monkeypatch.setattr(compiling, "_timed", None)
    run = Trainer(learners("language_modelling")[0], task, SETTINGS, seed=0)
    assert "compiled" not in run.run_to_next_rung().metrics


def test_without_a_compiler_asking_for_it_is_an_error(monkeypatch):
    require_compiler(TrainSettings(compile="auto"), "cpu")
    monkeypatch.setattr(execution.shutil, "which", lambda name: None)
    assert not compiler()
    with pytest.raises(UsageError, match="no C\\+\\+ compiler here") as caught:
        require_compiler(TrainSettings(compile=True), "cpu")
    assert caught.value.code == "no-compiler"
    require_compiler(TrainSettings(compile="auto"), "cpu")


PROGRAM = """
import json, sys
from pathlib import Path
from nas.settings.study_settings import TrainSettings
from nas.tasks import open_task
from nas.training import execution
from nas.training.trainer import Trainer
from tests.training.small_tasks import learners, settings_of

execution.BACKEND = "aot_eager"
folder, kind = Path(sys.argv[1]), "language_modelling"
task, architecture = open_task(settings_of(kind, folder)), learners(kind)[0]
settings = TrainSettings(steps=20, batch=4, rungs=(0.1, 0.2, 1.0), evaluation_tokens=64)
chosen = settings.model_copy(update={"compile": True})
plain = Trainer(architecture, task, settings, seed=0)
first = Trainer(architecture, task, chosen, seed=0, checkpoint=folder / "checkpoint")
rungs = [plain.run_to_next_rung(), first.run_to_next_rung()]
resumed = Trainer(architecture, task, chosen, seed=0, checkpoint=folder / "checkpoint")
rungs += [first.run_to_next_rung(), resumed.run_to_next_rung()]
print(json.dumps([[rung.metrics["val_loss"], rung.metrics.get("compiled")] for rung in rungs]))
"""


@pytest.mark.slow
def test_a_compiled_training_learns_the_same_is_told_and_goes_on_compiled(tmp_path):
    """With a translator that makes no machine code, which is fast; in a process whose models check no shapes."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (plain, none), (first, told), (uninterrupted, _), (resumed, again) = json.loads(done.stdout)
    assert (none, told, again) == (None, 1.0, 1.0)
    assert first == pytest.approx(plain, abs=1e-5)
    assert resumed == uninterrupted
