"""Muon updates the matrices and AdamW the rest, with one learning-rate schedule for both."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from nas.models.stack import Vocabulary
from nas.settings.recipe_versions import VERSIONS, Decay
from nas.settings.study_settings import TrainSettings
from nas.training.muon import Muon, blocks_of
from nas.training.orthogonalisation import ITERATIONS

MATRIX_LEARNING_RATES = {"muon": 0.04, "adamw": 0.01}
"""The learning rates of the linear layers: Muon's at every width, AdamW's at a fan-in of WIDTH. They are the best of a
grid on "python-docs" at 200 steps: 1.66 and 1.86 nats at hidden 64, depth 2. For 1,000 steps Muon did better with half
of its rate (1.32 against 1.36).
"""
OTHER_LEARNING_RATE = 0.012
"""The learning rate of embeddings, norms and scalars, which AdamW updates in either recipe."""
RATE_STEPS = 200
"""The steps of that grid; in recipe 2 Muon's rate falls with the square root of longer trainings' steps."""
WIDTH = 64
BETAS = (0.9, 0.95)
EPSILON = 1e-8


def schedule(step: int, steps: int, warmup: float, decay: Decay) -> float:
    """Returns the share of the learning rate at step s: above 0 for s = 0 .. steps − 1, and 0 afterwards.

    (s + 1) / w during the first w = warmup · steps. Then, with p = (s − w) / (steps − w), ½ (1 + cos π p) by "cosine",
    and 1 − p by "linear", as in Bergsma et al. 2025 (arXiv:2502.15938).
    """
    warm = round(warmup * steps)
    if step < warm:
        return (step + 1) / warm
    progress = min(1.0, (step - warm) / max(1, steps - warm))
    return 1 - progress if decay == "linear" else 0.5 * (1 + math.cos(math.pi * progress))


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
    def step(self, share: float, step: int = 0) -> None:
        """Updates from the gradients, at that share of the learning rate; `step` does not matter."""
        self.taken += 1
        unbias_first, unbias_second = (1 - beta ** int(self.taken) for beta in BETAS)
        names = [name for name, p in self.named.items() if p.grad is not None]
        if not names:
            return
        weights: list[Tensor] = [self.named[name] for name in names]
        gradients = [p.grad for p in weights if p.grad is not None]
        first, second = [self.first[name] for name in names], [self.second[name] for name in names]
        rates = [share * self.rates[name] for name in names]
        torch._foreach_lerp_(first, gradients, 1 - BETAS[0])
        torch._foreach_mul_(second, BETAS[1])
        torch._foreach_addcmul_(second, gradients, gradients, value=1 - BETAS[1])
        for name, p, rate in zip(names, weights, rates, strict=True):
            if self.decays[name]:
                p.mul_(1 - rate * self.decays[name])
        sizes = torch._foreach_div(second, unbias_second)
        torch._foreach_sqrt_(sizes)
        torch._foreach_add_(sizes, EPSILON)
        torch._foreach_addcdiv_(weights, first, sizes, [-rate / unbias_first for rate in rates])

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
        settings = self.settings
        share = schedule(int(self.taken), settings.steps, settings.warmup, VERSIONS[settings.recipe].decay)
        for rule in self.rules:
            rule.step(share, int(self.taken))
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
    effect of its update grows with N (Yang et al. 2022, arXiv:2203.03466). From recipe 2 on, that of the matrix that
    makes logits, tied to the embedding or not, falls so too, at widths above WIDTH; the others' is the same at every
    width.
    """
    recipe = MATRIX_LEARNING_RATES[settings.optimiser]
    version = VERSIONS[settings.recipe]
    falls = version.rate_falls and settings.optimiser == "muon"
    rate = learning_rate or recipe / (math.sqrt(max(1.0, settings.steps / RATE_STEPS)) if falls else 1)
    other_rate = OTHER_LEARNING_RATE * rate / recipe

    named = dict(model.named_parameters())
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    layers = {id(module.weight): module for module in model.modules() if isinstance(module, nn.Linear)}
    linear = layers.keys() - embeddings
    matrices = {name: p for name, p in named.items() if id(p) in linear}
    others = {name: p for name, p in named.items() if id(p) not in linear}

    rates = {**{name: rate * WIDTH / p.size(1) for name, p in matrices.items()}, **dict.fromkeys(others, other_rate)}
    if version.head_rate_falls:
        heads = {id(module.head.weight) for module in model.modules() if isinstance(module, Vocabulary)}
        rates |= {name: other_rate * min(1, WIDTH / p.size(1)) for name, p in others.items() if id(p) in heads}
    rules: list[Muon | AdamW]
    if settings.optimiser == "adamw":
        rules = [AdamW(named, rates, settings.weight_decay)]
    else:
        blocks = [each for p in matrices.values() for each in blocks_of(layers[id(p)], version.per_head)]
        iteration = ITERATIONS[version.iteration]
        muon = Muon(blocks, rate, settings.weight_decay, iteration, version.momentum, version.turns)
        rules = [muon, AdamW(others, rates, settings.weight_decay)]
    return Optimiser(named.values(), rules, settings)
