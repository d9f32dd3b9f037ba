"""Muon updates matrices by the polar factor of their momentum, each matrix, or each head's part of it, by itself.

Shapes: G blocks of one shape, M rows and N columns each; B of them from one weight.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from nas.attention.stacked import Stacked


@dataclass(frozen=True)
class Blocks:
    """Names blocks of one weight: `height` of its rows from `start` on, cut into blocks of `rows` rows.

    `scale` is √max(1, height / width) of the matrices before they are cut.
    """

    weight: Tensor
    start: int
    height: int
    rows: int
    scale: float

    @property
    def count(self) -> int:
        """Returns B."""
        return self.height // self.rows

    @property
    def is_whole(self) -> bool:
        """Tells whether the matrix is one block."""
        return self.rows == self.height

    def values_BMN(self) -> Tensor:
        """Returns a view, to be read and changed in place."""
        return self._cut(self.weight.detach())

    def gradient_BMN(self) -> Tensor:
        """Returns the gradient; zeros where the weight took no part."""
        grad = self.weight.grad
        return torch.zeros_like(self.values_BMN()) if grad is None else self._cut(grad)

    def _cut(self, tensor: Tensor) -> Tensor:
        return tensor.narrow(0, self.start, self.height).view(-1, self.rows, tensor.size(1))


def blocks_of(layer: nn.Linear, per_head: bool) -> list[Blocks]:
    """Lists the matrices of a layer, which may stack several, and with `per_head` each head's rows of them."""
    heights = layer.heights if isinstance(layer, Stacked) else (layer.out_features,)
    rows = layer.head_rows if per_head and isinstance(layer, Stacked) else None
    if rows and max(heights) <= layer.in_features:
        return [Blocks(layer.weight, 0, layer.out_features, rows, scale=1.0)]  # all at once, since their scale is 1
    places = zip(accumulate(heights, initial=0), heights, strict=False)
    scales = {height: math.sqrt(max(1, height / layer.in_features)) for height in heights}
    return [Blocks(layer.weight, start, height, rows or height, scales[height]) for start, height in places]


class Muon:
    """W ← W − η √max(1, M / N) · orthogonalise(g + μ m), m ← μ m + g: Nesterov momentum, then equal singular values.

    Jordan et al. 2024, after Bernstein and Newhouse (arXiv:2409.20325). Such a step changes a layer's output
    equally at every width, so η is not scaled. Weight decay is decoupled: W ← (1 − η λ) W.
    All blocks of one shape are updated at once. With `turns` = k, matrices that are not cut into heads take turns:
    each is updated at every k-th step, at the rate k η, from a momentum that every step's gradient enters.
    State: one value a weight.
    """

    def __init__(
        self,
        blocks: Iterable[Blocks],
        learning_rate: float,
        weight_decay: float,
        orthogonalise: Callable[[Tensor], Tensor],
        momentum: float = 0.95,
        turns: int = 1,
    ) -> None:
        self.learning_rate, self.weight_decay, self.orthogonalise = learning_rate, weight_decay, orthogonalise
        self.momentum, self.turns = momentum, turns
        self.groups: dict[tuple[int, ...], list[Blocks]] = defaultdict(list)
        for each in blocks:
            self.groups[tuple(each.values_BMN().shape[1:])].append(each)
        self.momenta = {
            shape: torch.cat([torch.zeros_like(blocks.values_BMN()) for blocks in group])
            for shape, group in self.groups.items()
        }
        self._parts = {shape: _split(self.momenta[shape], group) for shape, group in self.groups.items()}

    @torch.no_grad()
    def step(self, share: float, step: int = 0) -> None:
        """Updates from the gradients, at that share of the learning rate. `step` says whose turn it is."""
        for shape, group in self.groups.items():
            gradients = [blocks.gradient_BMN() for blocks in group]
            self.momenta[shape].mul_(self.momentum)
            torch._foreach_add_(self._parts[shape], gradients)
            turns = self.turns if all(blocks.is_whole for blocks in group) else 1
            turn = slice(step % turns, None, turns)
            if due := group[turn]:
                nesterov_GMN = torch.empty_like(self.momenta[shape] if turns == 1 else self.momenta[shape][turn])
                places = _split(nesterov_GMN, due)
                for place_BMN, gradient_BMN, momentum_BMN in zip(
                    places, gradients[turn], self._parts[shape][turn], strict=True
                ):
                    torch.add(gradient_BMN, momentum_BMN, alpha=self.momentum, out=place_BMN)
                self._write(due, self.orthogonalise(nesterov_GMN), turns * share * self.learning_rate)

    def _write(self, group: list[Blocks], update_GMN: Tensor, rate: float) -> None:
        for blocks, update_BMN in zip(group, _split(update_GMN, group), strict=True):
            values_BMN = blocks.values_BMN()
            if self.weight_decay:
                values_BMN.mul_(1 - rate * self.weight_decay)
            values_BMN.add_(update_BMN, alpha=-rate * blocks.scale)

    def state(self) -> dict[str, Tensor]:
        return {f"muon.{m}x{n}": momentum_GMN for (m, n), momentum_GMN in self.momenta.items()}


def _split(tensor_GMN: Tensor, group: Sequence[Blocks]) -> tuple[Tensor, ...]:
    """Returns the part of each of these blocks, as a view."""
    return torch.split(tensor_GMN, [blocks.count for blocks in group])
