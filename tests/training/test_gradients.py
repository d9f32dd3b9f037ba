"""The gradient of a batch in parts is that of the whole batch, for every task and family."""

from functools import partial

import pytest
import torch
from torch import nn

from nas.tasks import Task, model_of, open_task
from nas.tasks.token_task import IGNORED
from nas.training.execution import Execution
from nas.training.gradients import backward
from tests.training.small_tasks import EVERY_TASK, learners, settings_of

SIZE = 7


def gradients(model: nn.Module, task: Task, batch, *, ranks: int = 1, micro_batch: int | None = None):
    """The loss and every gradient, summed over all ranks."""
    model.zero_grad()
    loss_of = partial(task.loss, model)
    loss = sum(float(backward(loss_of, batch, "cpu", micro_batch, rank, ranks)) for rank in range(ranks))
    return loss, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def plain(model: nn.Module, task: Task, batch):
    model.zero_grad()
    loss = task.loss(model, *batch)
    loss.backward()
    return loss.item(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


def assert_close(found, expected) -> None:
    assert abs(found[0] - expected[0]) <= 1e-5
    for ours, theirs in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@EVERY_TASK
def test_parts_and_shares_sum_to_the_whole_batch(kind, tmp_path):
    task = open_task(settings_of(kind, tmp_path))
    batch = task.batch(torch.Generator().manual_seed(0), SIZE, "cpu")
    architectures = learners(kind)
    assert architectures
    for architecture in architectures:
        torch.manual_seed(0)
        model = model_of(architecture, task)
        expected = plain(model, task, batch)
        whole = gradients(model, task, batch)
        assert whole[0] == expected[0]
        assert all(map(torch.equal, whole[1], expected[1]))
        for ranks, micro_batch in ((1, 1), (1, 3), (2, None), (3, 2)):
            assert_close(gradients(model, task, batch, ranks=ranks, micro_batch=micro_batch), expected)


@EVERY_TASK
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # a norm that is not fused then
def test_every_family_trains_in_bfloat16(kind, tmp_path):
    """By the CPU's own autocast, which casts as a GPU's does."""
    task = open_task(settings_of(kind, tmp_path))
    batch = task.batch(torch.Generator().manual_seed(0), SIZE, "cpu")
    for architecture in learners(kind):
        torch.manual_seed(0)
        model = model_of(architecture, task)
        expected = plain(model, task, batch)
        with Execution(bf16=True).around_loss("cpu"):
            found = plain(model, task, batch)
        assert found[0] == pytest.approx(expected[0], abs=0.05)
        assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in found[1])
        apart = torch.stack([(a - b).norm() for a, b in zip(found[1], expected[1], strict=True)]).norm()
        assert apart < 0.1 * torch.stack([gradient.norm() for gradient in expected[1]]).norm()


def test_an_example_without_targets_counts_for_nothing(tmp_path):
    task = open_task(settings_of("translation", tmp_path))
    inputs, targets = task.batch(torch.Generator().manual_seed(0), 3, "cpu")
    targets[1] = IGNORED
    model = model_of(learners("translation")[0], task)
    assert_close(gradients(model, task, (inputs, targets), micro_batch=1), plain(model, task, (inputs, targets)))
