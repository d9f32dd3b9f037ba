"""The versions of the recipe start a training as they say, and the first one trains as it always did."""

import math

import torch
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.models.layers import Sinusoidal
from nas.settings.study_settings import TrainSettings
from nas.settings.task_settings import AssociativeRecall
from nas.tasks import open_task
from nas.training import optimiser
from nas.training.orthogonalisation import newton_schulz
from nas.training.stepper import Stepper

POSITIONS = "stack.positions.0.places_CD"


def test_learned_positions_start_as_sinusoids_in_recipe_2_and_drawn_in_recipe_1() -> None:
    block = {"attention": {"kind": "softmax", "heads": 2}, "position": "learned"}
    architecture = Architecture.model_validate({"hidden": 8, "blocks": [block]})
    task = open_task(AssociativeRecall(kind="associative_recall", context=16, vocabulary=32, pairs=3))
    first, second = (
        Stepper(architecture, task, TrainSettings(recipe=recipe), seed=0).model.state_dict() for recipe in (1, 2)
    )
    torch.testing.assert_close(second.pop(POSITIONS), Sinusoidal(8, task.context).places_CD)
    assert first.pop(POSITIONS).std() < 0.2
    torch.testing.assert_close(first, second, rtol=0, atol=0)


class TwoLayers(nn.Module):
    """Holds two matrices of one shape, and a norm, with first values and gradients by their own generator."""

    def __init__(self) -> None:
        super().__init__()
        self.draws = torch.Generator().manual_seed(0)
        self.up, self.gate = nn.Linear(8, 24, bias=False), nn.Linear(8, 24, bias=False)
        self.norm = nn.RMSNorm(8)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=self.draws))

    def draw_gradients(self) -> None:
        for p in self.parameters():
            p.grad = torch.randn(p.shape, generator=self.draws)


def test_recipe_1_stays_bit_for_bit() -> None:
    ours, plain = TwoLayers(), TwoLayers()
    settings = TrainSettings(recipe=1, steps=8, warmup=0.25, weight_decay=0.1)
    optimise = optimiser.build(ours, settings)
    for _ in range(8):
        ours.draw_gradients()
        optimise.step()
    _train_by_recipe_1(plain, settings)
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)


@torch.no_grad()
def _train_by_recipe_1(model: TwoLayers, settings: TrainSettings) -> None:
    """Takes the steps of recipe 1 as they were released, one operation after the other."""
    matrices: list[Tensor] = [model.up.weight, model.gate.weight]
    momentum_GMN = torch.zeros(2, 24, 8)
    adamw = optimiser.AdamW({"norm": model.norm.weight}, {"norm": 0.012}, settings.weight_decay)
    for step in range(8):
        model.draw_gradients()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        share = (step + 1) / 2 if step < 2 else 0.5 * (1 + math.cos(math.pi * min(1.0, (step - 2) / 6)))
        gradient_GMN = torch.stack([matrix.grad for matrix in matrices if matrix.grad is not None])
        momentum_GMN.mul_(0.95).add_(gradient_GMN)
        update_GMN = newton_schulz(gradient_GMN.add_(momentum_GMN, alpha=0.95))
        for matrix, update_MN in zip(matrices, update_GMN, strict=True):
            matrix.mul_(1 - share * 0.04 * 0.1)
            matrix.add_(update_MN, alpha=-share * 0.04 * math.sqrt(3))
        adamw.step(share)
