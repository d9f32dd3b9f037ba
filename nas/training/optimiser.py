"""Muon updates the matrices and AdamW the rest, with one learning-rate schedule for both.

Shapes: G equally shaped matrices, M rows and N columns each.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from nas.attention.stacked import Stacked
from nas.settings.study_settings import TrainSettings

MATRIX_LEARNING_RATES = {"muon": 0.04, "adamw": 0.01}
"""The learning rates of the linear layers: Muon's at every width, AdamW's at a fan-in of WIDTH. They are the best of a
grid on "python-docs" at 200 steps: 1.66 and 1.86 nats at hidden 64, depth 2. For 1,000 steps Muon did better with half
of its rate (1.32 against 1.36).
"""
OTHER_LEARNING_RATE = 0.012
"""The learning rate of embeddings, norms and scalars, which AdamW updates in either recipe."""
WIDTH = 64
BETAS = (0.9, 0.95)
EPSILON = 1e-8
MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def schedule(step: int, steps: int, warmup: float) -> float:
    """Returns the share of the learning rate at step s: above 0 for s = 0 .. steps − 1, and 0 afterwards.

    (s + 1) / w during the first w = warmup · steps, then ½ (1 + cos(π (s − w) / (steps − w))).
    """
    warm = round(warmup * steps)
    if step < warm:
        return (step + 1) / warm
    progress = (step - warm) / max(1, steps - warm)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def orthogonalise(x_GMN: Tensor) -> Tensor:
    """Approximates U Vᵀ of each x = U Σ Vᵀ by five steps X ← a X + (b A + c A²) X, A = X Xᵀ, from X = x / ‖x‖.

    The quintic of Jordan et al. 2024 (kellerjordan.github.io/posts/muon): singular values land in about [0.7, 1.2],
    which trains as well as exact ones. Time O(G · M² N) for M ≤ N.
    """
    a, b, c = NEWTON_SCHULZ
    tall = x_GMN.size(1) > x_GMN.size(2)  # turned on its side, its X Xᵀ is the smaller one
    # CPUs without bfloat16 units emulate it, eight times slower than fp32.
    half = x_GMN.is_cuda and torch.cuda.is_bf16_supported()
    x = (x_GMN.mT if tall else x_GMN).to(torch.bfloat16 if half else x_GMN.dtype)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(x_GMN.dtype)


@dataclass(frozen=True)
class StackedRows:
    """Names one of the matrices that are stacked in a weight: `height` rows from `start` on."""

    weight: nn.Parameter
    start: int
    height: int

    def values(self) -> Tensor:
        """Returns a view, to be read and changed in place."""
        return self.weight.detach().narrow(0, self.start, self.height)

    def gradient(self) -> Tensor:
        """Returns the gradient; zeros where the weight took no part."""
        grad = self.weight.grad
        return torch.zeros_like(self.values()) if grad is None else grad.narrow(0, self.start, self.height)


class Muon:
    """W ← W − η √max(1, M / N) · orthogonalise(g + μ m), m ← μ m + g: Nesterov momentum, then equal singular values.

    Jordan et al. 2024, after Bernstein and Newhouse (arXiv:2409.20325). Such a step changes a layer's output
    equally at every width, so η is not scaled. Weight decay is decoupled: W ← (1 − η λ) W.
    Each matrix that a weight stacks (`heights`: nas.attention.stacked) is taken by itself, and all of one shape are
    updated at once. State: one value a weight.
    """

    def __init__(
        self, weights: Iterable[tuple[nn.Parameter, tuple[int, ...]]], learning_rate: float, weight_decay: float
    ) -> None:
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.groups: dict[torch.Size, list[StackedRows]] = defaultdict(list)
        for weight, heights in weights:
            for start, height in zip(accumulate(heights, initial=0), heights, strict=False):
                rows = StackedRows(weight, start, height)
                self.groups[rows.values().shape].append(rows)
        self.momenta = {
            shape: torch.stack([torch.zeros_like(rows.values()) for rows in group])
            for shape, group in self.groups.items()
        }

    @torch.no_grad()
    def step(self, share: float) -> None:
        """Updates from the gradients, at that share of the learning rate."""
        rate = share * self.learning_rate
        for shape, group in self.groups.items():
            gradient_GMN = torch.stack([rows.gradient() for rows in group])
            momentum_GMN = self.momenta[shape].mul_(MOMENTUM).add_(gradient_GMN)
            update_GMN = orthogonalise(gradient_GMN.add_(momentum_GMN, alpha=MOMENTUM))
            scale = rate * math.sqrt(max(1, shape[0] / shape[1]))
            for rows, update_MN in zip(group, update_GMN, strict=True):
                values_MN = rows.values()
                if self.weight_decay:
                    values_MN.mul_(1 - rate * self.weight_decay)
                values_MN.add_(update_MN, alpha=-scale)

    def state(self) -> dict[str, Tensor]:
        return {f"muon.{m}x{n}": momentum_GMN for (m, n), momentum_GMN in self.momenta.items()}


class AdamW:
    """W ← (1 − η λ) W − η m̂ / (√v̂ + ε), m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², m̂, v̂ = m, v / (1 − β₁,₂ᵗ).

    Loshchilov and Hutter 2019 (arXiv:1711.05101). Each parameter has a learning rate of its own; norms and scalars
    have no weight decay. State: two values a weight.

    This class exists because the first use of torch.optim imports the compiler, which takes seconds in every process.
    """

    def __init__(self, named: Mapping[str, nn.Parameter], rates: Mapping[str, float], weight_decay: float) -> None:
        self.named, self.rates = named, rates
        self.decays = {name: weight_decay if p.ndim > 1 else 0.0 for name, p in named.items()}
        self.first = {name: torch.zeros_like(p) for name, p in named.items()}
        self.second = {name: torch.zeros_like(p) for name, p in named.items()}
        self.taken = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def step(self, share: float) -> None:
        """Updates from the gradients, at that share of the learning rate."""
        self.taken += 1
        unbias_first, unbias_second = (1 - beta ** int(self.taken) for beta in BETAS)
        for name, p in self.named.items():
            if p.grad is None:
                continue
            rate = share * self.rates[name]
            first = self.first[name].lerp_(p.grad, 1 - BETAS[0])
            second = self.second[name].mul_(BETAS[1]).addcmul_(p.grad, p.grad, value=1 - BETAS[1])
            if self.decays[name]:
                p.mul_(1 - rate * self.decays[name])
            size = second.div(unbias_second).sqrt_().add_(EPSILON)
            p.addcdiv_(first, size, value=-rate / unbias_first)

    def state(self) -> dict[str, Tensor]:
        first = {f"adamw.{name}.first": tensor for name, tensor in self.first.items()}
        second = {f"adamw.{name}.second": tensor for name, tensor in self.second.items()}
        return {"adamw.taken": self.taken, **first, **second}


class Optimiser:
    """Clips the gradient's norm, follows the schedule, and updates every parameter by its rule."""

    def __init__(self, parameters: Iterable[nn.Parameter], rules: Sequence[Muon | AdamW], settings: TrainSettings):
        self.parameters, self.rules, self.settings = list(parameters), rules, settings
        self.taken = torch.zeros((), dtype=torch.int64)

    def step(self) -> None:
        nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        share = schedule(int(self.taken), self.settings.steps, self.settings.warmup)
        for rule in self.rules:
            rule.step(share)
        self.taken += 1

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Returns every tensor that the next step depends on, by name: the live ones, to be saved or copied into."""
        tensors = {name: tensor for rule in self.rules for name, tensor in rule.state().items()}
        return {"taken": self.taken, **tensors}


def build(model: nn.Module, settings: TrainSettings, learning_rate: float | None = None) -> Optimiser:
    """Builds the optimiser that the settings name, for all parameters of the model.

    "muon" updates the weights of linear layers, unless shared with an embedding, by Muon, and the rest by AdamW;
    "adamw" updates everything. `learning_rate` is the linear layers', by default the recipe's own; the others' keeps
    its ratio to it.

    Scaling by width: Muon's rate needs none. AdamW's is divided by a layer's fan-in N, η · WIDTH / N, as the
    effect of its update grows with N (Yang et al. 2022, arXiv:2203.03466); the others' is the same at every width.
    """
    recipe = MATRIX_LEARNING_RATES[settings.optimiser]
    rate = learning_rate or recipe
    other_rate = OTHER_LEARNING_RATE * rate / recipe

    named = dict(model.named_parameters())
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    layers = {id(module.weight): module for module in model.modules() if isinstance(module, nn.Linear)}
    linear = layers.keys() - embeddings
    matrices = {name: p for name, p in named.items() if id(p) in linear}
    others = {name: p for name, p in named.items() if id(p) not in linear}

    rates = {**{name: rate * WIDTH / p.size(1) for name, p in matrices.items()}, **dict.fromkeys(others, other_rate)}
    rules: list[Muon | AdamW]
    if settings.optimiser == "adamw":
        rules = [AdamW(named, rates, settings.weight_decay)]
    else:
        stacks = [(p, _heights(layers[id(p)])) for p in matrices.values()]
        rules = [Muon(stacks, rate, settings.weight_decay), AdamW(others, rates, settings.weight_decay)]
    return Optimiser(named.values(), rules, settings)


def _heights(layer: nn.Linear) -> tuple[int, ...]:
    return layer.heights if isinstance(layer, Stacked) else (layer.out_features,)
