"""The optimisers equal their definitions, follow the schedule, and continue from a stored state."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.models.decoder import Decoder
from nas.settings.recipe_versions import Decay
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


@hypothesis_settings(deadline=None)
@given(st.integers(1, 400), st.floats(0, 0.99), st.sampled_from(["cosine", "linear"]))
def test_the_schedule_rises_then_falls_and_is_never_zero(steps: int, warmup: float, decay: Decay) -> None:
    shares = [optimiser.schedule(step, steps, warmup, decay) for step in range(steps)]
    warm = round(warmup * steps)
    assert all(0 < share <= 1 for share in shares)
    assert shares[:warm] == sorted(shares[:warm])
    assert shares[warm:] == sorted(shares[warm:], reverse=True)
    assert max(shares) == 1
    assert optimiser.schedule(steps, steps, warmup, decay) == pytest.approx(0, abs=1e-12) or warm == steps


@pytest.mark.parametrize(
    ("recipe", "expected"), [(1, [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447]), (2, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25])]
)
def test_all_rates_fall_along_a_cosine_in_recipe_1_and_a_line_in_recipe_2(recipe: int, expected: list[float]) -> None:
    """Adam's step under a constant gradient is the rate, here that of a norm's weights."""
    model = Tied()
    settings = TrainSettings(recipe=recipe, steps=6, warmup=0.4, clip=1000.0)
    optimise = optimiser.build(model, settings)
    moved = []
    for _ in range(6):
        before = model.norm.weight.detach().clone()
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimise.step()
        moved.append((before - model.norm.weight.detach()).mean().item() / optimiser.OTHER_LEARNING_RATE)
    assert moved == pytest.approx(expected, rel=1e-4)


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


@pytest.mark.parametrize(
    ("recipe", "steps", "expected"), [(1, 800, 0.04), (2, 100, 0.04), (2, 200, 0.04), (2, 800, 0.02), (2, 3200, 0.01)]
)
def test_muons_own_rate_falls_with_the_steps_in_recipe_2(recipe: int, steps: int, expected: float) -> None:
    settings = TrainSettings(recipe=recipe, steps=steps)
    muon, adamw = optimiser.build(Tied(), settings).rules
    assert isinstance(muon, optimiser.Muon)
    assert isinstance(adamw, optimiser.AdamW)
    assert muon.learning_rate == pytest.approx(expected)
    assert adamw.rates["norm.weight"] == pytest.approx(optimiser.OTHER_LEARNING_RATE * expected / 0.04)
    assert optimiser.build(Tied(), settings, learning_rate=0.03).rules[0].learning_rate == 0.03  # type: ignore[union-attr]


@pytest.mark.parametrize("optimiser_name", ["muon", "adamw"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_first_step_changes_logits_equally_at_every_width(optimiser_name: str, tied: bool) -> None:
    changes = {hidden: _first_change(hidden, tied, optimiser_name) for hidden in (64, 128, 256, 512)}
    assert max(changes.values()) < 2.5 * min(changes.values()), changes


def _first_change(hidden: int, tied: bool, optimiser_name: str) -> float:
    """Returns the mean size of what the first step of a training adds to the logits of its own batch."""
    block = {"attention": {"kind": "softmax", "heads": 4}}
    architecture = Architecture.model_validate({"hidden": hidden, "blocks": [block], "tied": tied})
    torch.manual_seed(0)
    model = Decoder(architecture, vocabulary=50, context=16)
    tokens_BT = torch.randint(50, (4, 17))
    settings = TrainSettings.model_validate({"optimiser": optimiser_name, "warmup": 0.0})
    optimise = optimiser.build(model, settings)
    before_BTV = model(tokens_BT[:, :-1])
    torch.autograd.backward(nn.functional.cross_entropy(before_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten()))
    optimise.step()
    with torch.no_grad():
        return float((model(tokens_BT[:, :-1]) - before_BTV).abs().mean())
