"""A study as a search leaves it, made in a moment by closed-form trials, and `nas` as a function."""

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from nas.architecture import Architecture
from nas.cli.__main__ import main
from nas.files import write_json
from nas.measure import environment
from nas.measurement import Measurement
from nas.results import Rung
from nas.running import serial_executor as serial
from nas.running.coordinator import Coordinator
from nas.running.events import Completed, Event, Failed, Job, Measured, Reached
from nas.running.stop_control import StopControl
from nas.settings import study_file
from nas.settings.study_file import StudyFile
from nas.study.leases import join
from nas.study.store import Store, sqlite_url
from nas.tasks import floors_of, open_task
from nas.tasks.language_modelling import LanguageModelling

TEXT = "".join(f"the quick brown fox number {n} jumps over the lazy dog; " for n in range(60))

STUDY = """
name = "demo"
task = {{ corpus = "{corpus}", context = 8 }}
train = {{ steps = 6, batch = 4, rungs = [0.5, 1.0], evaluation_tokens = 64 }}
objectives = [{{ metric = "val_loss" }}, {{ metric = "decode_ms_per_token" }}, {{ metric = "weights_mib" }}]
constraints = [{{ metric = "params", max = 9000 }}]
search = {{ trials = 6, sampler = "random" }}
resources = {{ device = "cpu" }}
baselines = [{{ hidden = 16, depth = 1, attention = {{ kind = "softmax", heads = 2 }} }}]
[space]
depth = [1, 2, 3]
hidden = [16, 24]
feed_forward = {{ ratio = [2.0, 4.0] }}
attention = [{{ kind = "softmax", heads = [2, 4] }}, {{ kind = "linear", heads = [2, 4] }}]
"""


class TableBody:
    """A trial whose figures follow from its sizes: larger ones learn better and take longer. Trial 2 fails."""

    def __init__(self, job: Job) -> None:
        model = Architecture.model_validate(job.architecture)
        self.size, self.number, self.steps = model.hidden * model.depth, job.number, iter((3, 6))
        self.measured = False

    def step(self) -> Event:
        if not self.measured:
            self.measured = True
            decode = Measurement.of([self.size / 100 + noise / 1000 for noise in range(10)])
            sizes = {"weights_mib": self.size / 1000, "params": 200.0 * self.size, "contended": self.number == 0}
            return Measured({**decode.metrics("decode_ms_per_token"), **sizes})
        if self.number == 2:
            return Failed("nan", "loss is not finite")
        step = next(self.steps)
        loss = 3.0 - self.size / 100 - step / 10
        rung = Rung(step, step / 2, {"val_loss": loss, "val_accuracy": 0.25, "train_seconds": step / 2})
        return Reached(rung) if step < 6 else Completed(rung, dict(rung.metrics))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "fox.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def settings(corpus: Path) -> StudyFile:
    return study_file.parse(STUDY.format(corpus=corpus))


@pytest.fixture(scope="session")
def stored(settings: StudyFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`runs/` with one finished study, `demo`. To be read only."""
    runs = tmp_path_factory.mktemp("stored") / "runs"
    search_by_table(runs, settings)
    return runs


@pytest.fixture
def runs(stored: Path, tmp_path: Path, nas: "Nas", monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the same, to be written to, that `nas` works on."""
    copy = tmp_path / "runs"
    shutil.copytree(stored, copy)
    monkeypatch.setenv("NAS_RUNS", str(copy))
    return copy


@pytest.fixture
def make_study() -> Callable[..., None]:
    return search_by_table


def search_by_table(runs: Path, settings: StudyFile, trials: int = 6) -> None:
    """Search by table until `trials` of the budget are trained."""
    folder = runs / settings.name
    folder.mkdir(parents=True)
    store, task = Store.create(sqlite_url(folder), settings.name, settings.objective_list()), open_task(settings.task)
    store.set_attribute("data", task.describe() | {"floors": floors_of(task, settings.train.evaluation_tokens)})
    store.set_attribute("environment", environment())
    store.set_attribute("created", time.time())
    store.set_attribute("settings", settings.resolved())
    store.set_attribute("budget", settings.search.trials)
    leases = join(store.database, store.name, trials, hardware="a processor")
    coordinator = Coordinator(leases, settings)
    coordinator.enqueue(settings.baselines[0].architecture("decoder"), baseline=True)
    serial.run(coordinator, TableBody, StopControl(folder))
    coordinator.close()
    leases.leave()
    store.close()
    write_json(folder / "environment.json", environment())


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Nas = Callable[..., Ran]


@pytest.fixture
def nas(
    stored: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Nas:
    """`nas(*arguments)` as from a shell, in an empty folder, with the stored study under NAS_RUNS."""
    # Locks of its own: whoever else measures on this machine does not make the tests wait.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("locks")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_RUNS", str(stored))
    monkeypatch.delenv("NAS_REPORTS", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["nas", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def driver(stored: Path) -> FileLock:
    """The lock that a running search of the stored study holds."""
    return FileLock(stored / "demo" / "driver.lock")


@pytest.fixture
def signal_at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`signal_at_step(n, SIGINT)`: the signals arrive while step n is computed."""
    batch = LanguageModelling.batch

    def arrange(step: int, *numbers: int) -> None:
        steps = iter(range(1, 1000))

        def interrupted(self, generator, size, device="cpu"):
            if next(steps) == step:
                for number in numbers:
                    signal.raise_signal(number)
            return batch(self, generator, size, device)

        monkeypatch.setattr(LanguageModelling, "batch", interrupted)

    return arrange
