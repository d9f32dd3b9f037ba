"""Shapes and types of the attention and model code are checked at every call while the tests run."""

import os
import tempfile
from functools import partial

# Before torch is imported, here and in every process that a test starts: on small tensors, threads wait for each other
# more than they work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from jaxtyping import install_import_hook

install_import_hook(["nas.attention", "nas.models"], "beartype.beartype")


@pytest.fixture(autouse=True)
def _locks_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever else measures on this machine does not make the tests wait, nor they them."""
    folder = str(tmp_path_factory.getbasetemp() / "locks")
    monkeypatch.setattr(tempfile, "tempdir", folder)
    monkeypatch.setenv("TMPDIR", folder)
    (tmp_path_factory.getbasetemp() / "locks").mkdir(exist_ok=True)


@pytest.fixture
def quick_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every measurement in this process counts as it is, and proposals learn from a few samples of the space.

    For tests of real searches that judge neither a time nor a proposal: beside other tests, waiting for a quiet machine
    is in vain.
    """
    from nas.measure import cheap, latency
    from nas.running import architecture_features, measuring

    monkeypatch.setattr(architecture_features, "SAMPLES", 50)
    monkeypatch.setattr(measuring, "TRIES", 1)
    monkeypatch.setattr(cheap, "latency", partial(latency.latency, seconds=0))
