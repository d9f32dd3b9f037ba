"""Memory of a GPU: a trial that is sure to exceed its share never starts, and one that ran out gives all back."""

import gc
import json
import weakref

import pytest
import torch

from nas.running import trial as trials
from nas.running.events import Failed, Job
from nas.running.trial import TrialRun, memory_mib
from nas.training.execution import Execution
from tests.running.tables import settings

GIB = 2**30
BLOCK = {"attention": {"kind": "softmax", "heads": 4}}


@pytest.fixture
def body(tmp_path, monkeypatch):
    """A trial that takes itself to be on a GPU of that memory."""
    path = tmp_path / "corpus.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")

    def make(memory: int, share: float = 1.0, hidden: int = 32) -> TrialRun:
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: type("Card", (), {"total_memory": memory}))
        file = settings(f"task.corpus={json.dumps(str(path))}", f"resources.gpus_per_trial={share}", "baselines=[]")
        job = Job(0, 1, 0, {"hidden": hidden, "blocks": [BLOCK] * 2})
        run = TrialRun(job, file=file, folder=tmp_path, device="cpu")
        run.device = "cuda"
        return run

    return make


@pytest.mark.parametrize(("share", "gib"), [(0.25, 2), (1.0, 8), (2.0, 8)])
def test_a_share_of_a_gpu_is_a_share_of_its_memory(body, share, gib):
    run = body(8 * GIB, share)
    assert memory_mib(run.file, "cuda") == gib * 1024


def test_a_training_beyond_the_share_is_out_of_memory_before_it_starts(body, monkeypatch):
    monkeypatch.setattr(trials, "chosen_execution", lambda *_: Execution())
    event = body(GIB, 0.01, hidden=1024).step()
    assert isinstance(event, Failed)
    assert event.reason == "oom"
    assert "the trial has 10 MiB of its GPU" in event.detail
    assert "train.micro_batch" in event.detail


def test_a_trial_that_ran_out_of_memory_gives_everything_back(body, monkeypatch):
    freed = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(True))
    run = body(GIB)
    run._measured, run._trainer = True, type("Trainer", (), {"rungs": (), "done": False})()
    gone = weakref.ref(run._trainer)

    def fails():
        raise torch.OutOfMemoryError("CUDA out of memory")

    run._trainer.run_to_next_rung = fails
    assert run.step() == Failed("oom", "CUDA out of memory")
    gc.collect()
    assert freed == [True]
    assert gone() is None
