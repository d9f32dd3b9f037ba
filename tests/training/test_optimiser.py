"""The optimisers equal their definitions, follow the schedule, and continue from a stored state."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.settings.study_settings import TrainSettings
from nas.training import optimiser


class Tied(nn.Module):
    """An embedding shared with the head, three matrices of two shapes, and a norm."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embedding = nn.Embedding(11, 8)
        self.up, self.gate = nn.Linear(8, 24, bias=False), nn.Linear(8, 24, bias=False)
        self.down = nn.Linear(24, 8, bias=False)
        self.norm = nn.RMSNorm(8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight
        for p in self.parameters():
            nn.init.normal_(p, std=0.3, generator=generator)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        x_BTD = self.embedding(tokens_BT)
        y_BTD = self.down(torch.tanh(self.up(x_BTD)) * self.gate(x_BTD))
        logits: Tensor = self.head(self.norm(x_BTD + y_BTD))
        return logits


def train(model: nn.Module, optimise: optimiser.Optimiser, steps: int, seed: int = 0) -> list[float]:
    tokens_BT = torch.randint(11, (4, 7), generator=torch.Generator().manual_seed(seed))
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(tokens_BT).flatten(0, 1), (3 * tokens_BT + 1).flatten() % 11)
        optimise.zero_grad()
        torch.autograd.backward(loss)
        optimise.step()
        losses.append(loss.item())
    return losses


@given(st.integers(1, 400), st.floats(0, 0.99))
def test_the_schedule_rises_then_falls_and_is_never_zero(steps: int, warmup: float) -> None:
    shares = [optimiser.schedule(step, steps, warmup) for step in range(steps)]
    warm = round(warmup * steps)
    assert all(0 < share <= 1 for share in shares)
    assert shares[:warm] == sorted(shares[:warm])
    assert shares[warm:] == sorted(shares[warm:], reverse=True)
    assert max(shares) == 1
    assert optimiser.schedule(steps, steps, warmup) == pytest.approx(0, abs=1e-12) or warm == steps


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 8), (2, 8, 24)])
def test_orthogonalise_keeps_the_directions_and_levels_the_singular_values(shape: tuple[int, int, int]) -> None:
    x_GMN = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(x_GMN, full_matrices=False)
    inner = u.mT @ optimiser.orthogonalise(x_GMN) @ vh.mT
    level = inner.diagonal(dim1=1, dim2=2)
    assert ((level > 0.6) & (level < 1.25)).all()
    torch.testing.assert_close(inner, torch.diag_embed(level), atol=1e-4, rtol=0)


def test_orthogonalise_ignores_the_scale() -> None:
    x_GMN = torch.randn(2, 8, 24, generator=torch.Generator().manual_seed(0))
    expected = optimiser.orthogonalise(x_GMN)
    torch.testing.assert_close(optimiser.orthogonalise(1e4 * x_GMN), expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(optimiser.orthogonalise(1e-3 * x_GMN), expected, atol=1e-3, rtol=1e-3)
    assert not optimiser.orthogonalise(0 * x_GMN).any()


def test_muon_equals_the_definition_one_matrix_at_a_time() -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = [nn.Parameter(torch.randn(m, n, generator=generator)) for m, n in [(8, 24), (8, 24), (24, 8)]]
    expected = [matrix.detach().clone() for matrix in matrices]
    momenta = [torch.zeros_like(matrix) for matrix in expected]
    weights = [(matrix, (matrix.size(0),)) for matrix in matrices]
    muon = optimiser.Muon(weights, learning_rate=0.1, weight_decay=0.5)
    for share in (1.0, 0.5):
        for i, matrix in enumerate(matrices):
            gradient = torch.randn(matrix.shape, generator=generator)
            matrix.grad = gradient.clone()
            momenta[i] = 0.95 * momenta[i] + gradient
            step = optimiser.orthogonalise((gradient + 0.95 * momenta[i])[None])[0]
            factor = math.sqrt(3) if matrix.size(0) == 24 else 1
            expected[i] = (1 - 0.1 * share * 0.5) * expected[i] - 0.1 * share * factor * step
        muon.step(share)
    torch.testing.assert_close([matrix.detach() for matrix in matrices], expected)


def test_muon_takes_each_matrix_that_a_weight_stacks_by_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    stacked = nn.Parameter(torch.randn(40, 16, generator=generator))
    apart = [nn.Parameter(part.clone()) for part in stacked.detach().split((16, 8, 16))]
    stacked.grad = torch.randn(40, 16, generator=generator)
    for part, gradient in zip(apart, stacked.grad.split((16, 8, 16)), strict=True):
        part.grad = gradient.clone()
    optimiser.Muon([(stacked, (16, 8, 16))], learning_rate=0.1, weight_decay=0.0).step(1.0)
    optimiser.Muon([(part, (len(part),)) for part in apart], learning_rate=0.1, weight_decay=0.0).step(1.0)
    torch.testing.assert_close(stacked.detach(), torch.cat([part.detach() for part in apart]))


def test_adamw_equals_pytorchs() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix, norm = (nn.Parameter(torch.randn(shape, generator=generator)) for shape in [(2, 128), (3,)])
    copies = [nn.Parameter(p.detach().clone()) for p in (matrix, norm)]
    adamw = optimiser.AdamW({"matrix": matrix, "norm": norm}, {"matrix": 0.05, "norm": 0.1}, weight_decay=0.5)
    groups = [{"params": copies[:1], "lr": 0.05, "weight_decay": 0.5}, {"params": copies[1:], "lr": 0.1}]
    pytorchs = torch.optim.AdamW(groups, betas=optimiser.BETAS, weight_decay=0.0)
    for _ in range(5):
        for p, copy in zip((matrix, norm), copies, strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            copy.grad = p.grad.clone()
        adamw.step(1.0)
        pytorchs.step()
    torch.testing.assert_close([matrix, norm], copies)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_both_learn(kind: str) -> None:
    model = Tied()
    settings = TrainSettings.model_validate({"optimiser": kind, "steps": 150})
    losses = train(model, optimiser.build(model, settings, learning_rate=0.05), 150)
    assert losses[-1] < 0.3 < 2 < losses[0]


def test_muon_takes_the_linear_layers_that_are_not_the_embedding() -> None:
    model = Tied()
    names = set(optimiser.build(model, TrainSettings()).state())
    assert {name for name in names if name.startswith("muon")} == {"muon.24x8", "muon.8x24"}
    assert {name.split(".")[1] for name in names if name.startswith("adamw")} == {"taken", "embedding", "norm"}


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_copied_state_continues_bitwise(kind: str) -> None:
    settings = TrainSettings.model_validate({"optimiser": kind, "steps": 10, "weight_decay": 0.1})
    whole, half = Tied(), Tied()
    train(whole, optimiser.build(whole, settings), 10)
    before = optimiser.build(half, settings)
    train(half, before, 4)
    after = optimiser.build(half, settings)
    for name, tensor in after.state().items():
        tensor.copy_(before.state()[name])
    train(half, after, 6)
    for a, b in zip(whole.parameters(), half.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_gradient_is_clipped() -> None:
    model = Tied()
    settings = TrainSettings(clip=1e-3)
    train(model, optimiser.build(model, settings), 1)
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_adamws_rate_falls_with_the_fan_in() -> None:
    model = Tied()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    settings = TrainSettings.model_validate({"optimiser": "adamw", "steps": 1, "warmup": 0.0})
    train(model, optimiser.build(model, settings, learning_rate=0.01), 1)
    moved = {name: (p - before[name]).abs().max().item() for name, p in model.named_parameters()}
    # The first step of Adam is the learning rate times the sign of the gradient.
    assert moved["up.weight"] == pytest.approx(0.01 * 64 / 8, rel=1e-3)
    assert moved["down.weight"] == pytest.approx(0.01 * 64 / 24, rel=1e-3)
    assert moved["norm.weight"] == pytest.approx(optimiser.OTHER_LEARNING_RATE, rel=1e-3)
