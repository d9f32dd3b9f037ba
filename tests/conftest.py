"""Shapes and types of the attention and model code are checked at every call, in the tests of CHECKED folders.

The checks take longer than the small models themselves. Tests of whole searches leave them out.
"""

import atexit
import gc
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

# Before torch is imported, here and in every process that a test starts: on small tensors, threads wait for each other
# more than they work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray's workers are as urgent as the tests beside them, which they would wait for otherwise.
os.environ.setdefault("RAY_worker_niceness", "0")
if "NAS_CACHE" not in os.environ:  # tokens that tests prepare are not for the user's own cache
    os.environ["NAS_CACHE"] = tempfile.mkdtemp(prefix="nas-tests-")
    atexit.register(shutil.rmtree, os.environ["NAS_CACHE"], ignore_errors=True)

import jaxtyping
import pytest
import torch

jaxtyping.install_import_hook(["nas.attention", "nas.models"], "beartype.beartype")
# `nohup` and a shell's background jobs ignore these, and so would every process that a test sends them to.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
CHECKED = ("attention", "models", "measure", "parity", "training")
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)


def pytest_collection_finish() -> None:
    """Spares every test three milliseconds, and leaves what is imported by now out of garbage collections.

    Collections take 4 % of the tests' time otherwise. Six times a test, pytest adds itself to each logger that does not
    propagate, and torch has dozens. For each kind of device, a seed writes down from where it was set, if it is absent.
    """
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("torch") and isinstance(logger, logging.Logger):
            logger.propagate = True
    for devices in (torch.cuda, torch.xpu, torch.mtia):
        if not devices.is_available():
            devices.manual_seed_all = lambda seed: None
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _shapes_are_checked(request: pytest.FixtureRequest) -> None:
    folder = request.path.relative_to(HERE).parts[0]
    jaxtyping.config.update("jaxtyping_disable", folder not in CHECKED)


@pytest.fixture(scope="session")
def _temporary() -> Iterator[str]:
    """A short path, since a socket's path has at most 107 bytes, and Ray makes one seven folders deep."""
    folder = tempfile.mkdtemp(prefix="nas-")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _locks_of_its_own(_temporary: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever else measures on this machine does not make the tests wait, nor they them."""
    monkeypatch.setattr(tempfile, "tempdir", _temporary)
    monkeypatch.setenv("TMPDIR", _temporary)


@pytest.fixture
def ray_in_this_process() -> Iterator[None]:
    """Collects what Ray leaves open while its warnings are still ignored, so that no later test is blamed."""
    yield
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def _small_forests() -> Iterator[None]:
    """Importances take most of a report's time; their own tests alone judge them."""
    from nas.report import importance

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(importance, "TREES", 6)
        yield


@pytest.fixture(autouse=True)
def _figures_are_blank(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches in tests write dozens of reports. Drawing takes most of their time; only tests/report looks at it."""
    if request.path.relative_to(HERE).parts[0] in ("api", "cli", "running"):
        from nas.report import figures

        monkeypatch.setattr(figures, "_save", blank)


def blank(figure: object, stem: Path) -> str:
    """Writes both files of a figure, as `nas.report.figures` does, with nothing in them."""
    text = '<svg xmlns="http://www.w3.org/2000/svg"/>'
    stem.with_suffix(".png").write_bytes(b"")
    stem.with_suffix(".svg").write_text(text, encoding="utf-8")
    return text


def fit_fast(patch: pytest.MonkeyPatch, steps: int | None = None) -> None:
    """Kernels are fitted by the form that many running trials have, in at most so many steps."""
    from nas.samplers import gaussian_process, study_model

    patch.setattr(study_model, "kernel", gaussian_process.kernel)
    if steps:
        limited = partial(gaussian_process.scipy.optimize.minimize, options={"maxiter": steps})
        patch.setattr(gaussian_process.scipy.optimize, "minimize", limited)


def draw_small_pools(patch: pytest.MonkeyPatch) -> None:
    """Proposals come from a few draws instead of a thousand."""
    from nas.running import architecture_features
    from nas.samplers import pareto_sampler

    for name, size in {"BASE_POOL": 40, "FRESH": 12, "NEIGHBOURS": 12}.items():
        patch.setattr(pareto_sampler, name, size)
    patch.setattr(architecture_features, "SAMPLES", 20)


@pytest.fixture
def fast_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proposals are as good, but for rounding, and come in half the time."""
    fit_fast(monkeypatch)


@pytest.fixture(scope="module")
def quick_proposals() -> Iterator[None]:
    """Some tests make hundreds of samplers, each of which begins anew.

    For tests of what is done with proposals, not of how good they are.
    """
    with pytest.MonkeyPatch.context() as patch:
        fit_fast(patch, steps=6)
        draw_small_pools(patch)
        yield


@pytest.fixture
def parts_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a benchmark run here one after another, since a process for each takes seconds to start.

    tests/bench/test_pool.py holds the processes.
    """
    from nas.bench import kept_trainings, recall, retraining, samplers

    for module in (kept_trainings, recall, retraining, samplers):
        monkeypatch.setattr(module, "side_by_side", lambda work, tasks, jobs: ((task, work(task)) for task in tasks))


@pytest.fixture
def quick_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every measurement in this process counts as it is, and proposals come from few draws.

    For tests of real searches that judge neither a time nor a proposal: beside other tests, waiting for a quiet machine
    is in vain.
    """
    from nas.measure import cheap, latency
    from nas.running import measuring

    fit_fast(monkeypatch, steps=6)
    draw_small_pools(monkeypatch)
    monkeypatch.setattr(measuring, "TRIES", 1)
    monkeypatch.setattr(cheap, "latency", partial(latency.latency, seconds=0))
