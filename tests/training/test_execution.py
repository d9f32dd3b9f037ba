"""How steps are computed: chosen by the device, stored with the training, and kept when it is continued."""

from pathlib import Path

import pytest
import torch

from nas.settings.study_settings import TrainSettings
from nas.tasks import Task, open_task
from nas.tasks.token_task import EVALUATION_TOKENS_AT_ONCE, at_once, on_device
from nas.training.execution import Execution, chosen_execution
from nas.training.trainer import Trainer
from tests.training.small_tasks import learners, settings_of

SETTINGS = TrainSettings(steps=20, batch=4, rungs=(0.1, 0.2, 1.0), evaluation_tokens=64)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return open_task(settings_of("language_modelling", tmp_path_factory.mktemp("corpus")))


def trainer(task: Task, **rest) -> Trainer:
    return Trainer(learners("language_modelling")[0], task, SETTINGS, seed=0, **rest)


@pytest.mark.parametrize(
    ("device", "supported", "precision", "bf16"),
    [
        ("cuda", True, "auto", True),
        ("cuda:1", True, "auto", True),
        ("cuda", False, "auto", False),
        ("cuda", True, "fp32", False),
        ("cpu", True, "auto", False),
    ],
)
def test_a_gpu_that_has_bfloat16_trains_in_it(monkeypatch, device, supported, precision, bf16):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert chosen_execution(TrainSettings(precision=precision), device).bf16 is bf16


def test_what_is_not_plain_is_stored_and_read_again():
    for execution in (Execution(), Execution(bf16=True), Execution(compiled=True), Execution(True, True)):
        assert Execution.from_stored(execution.told()) == execution
    assert Execution.from_stored(None) == Execution()
    assert Execution().told() == {}


def test_training_in_bfloat16_is_close_is_told_and_goes_on_alike(task: Task, tmp_path: Path):
    """By autocast on the CPU, which does as a GPU does, but slowly."""
    plain, path = trainer(task).run_to_next_rung(), tmp_path / "checkpoint"
    first = trainer(task, checkpoint=path)
    first.stepper.execution = Execution(bf16=True)
    rung = first.run_to_next_rung()
    assert rung.metrics["bf16"] == 1.0
    assert "bf16" not in plain.metrics
    assert plain.metrics["val_loss"] != rung.metrics["val_loss"] == pytest.approx(plain.metrics["val_loss"], abs=0.05)
    resumed = trainer(task, checkpoint=path)
    assert resumed.stepper.execution == Execution(bf16=True)
    assert resumed.run_to_next_rung().metrics["val_loss"] == first.run_to_next_rung().metrics["val_loss"]


def test_a_gpu_fetches_batches_from_pinned_memory_without_a_wait(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: asked.append("pinned") or tensor)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *place, **how: asked.append((*place, how)) or tensor)
    tokens_BT = torch.zeros(2, 3)
    on_device("cuda:0", ((tokens_BT,), tokens_BT))
    assert asked == ["pinned", ("cuda:0", {"non_blocking": True})] * 2


def test_a_gpu_evaluates_more_at_once():
    assert at_once(64, "cpu") == EVALUATION_TOKENS_AT_ONCE // 64
    assert at_once(64, "cuda") > at_once(64, "cpu")
    assert at_once(10**6, "cuda:1") == 1
