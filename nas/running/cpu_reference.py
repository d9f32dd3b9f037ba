"""Measures how far a device's results differ from the CPU's, for the checks of a GPU.

Shapes: B batch, T tokens, D hidden.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from nas.attention import build, flex
from nas.kinds import Kind, Position
from nas.measure.hardware import checked_device

HIDDEN = 64


def difference(found: Tensor, expected: Tensor) -> float:
    """Returns the largest difference, as a share of the largest value."""
    expected = expected.detach().double()
    return float((found.detach().cpu().double() - expected).abs().max() / expected.abs().max().clamp_min(1e-12))


def kind_difference(
    spec: Kind,
    device: str,
    length: int = 33,
    position: Position | None = None,
    padded: bool = False,
) -> float:
    """Returns the largest difference of output and gradients from the CPU's in double precision."""
    torch.manual_seed(0)
    layer, x_BTD = build(spec, HIDDEN, length, "causal" in spec.forms, position), torch.randn(2, length, HIDDEN)
    padding_BT = torch.zeros(2, length, dtype=torch.bool) if padded else None
    if padding_BT is not None:
        padding_BT[0, length - 7 :] = True
    expected = _passes(copy.deepcopy(layer).double(), x_BTD.double(), padding_BT)
    place = checked_device(device)
    found = _passes(layer.to(place), x_BTD.to(place), None if padding_BT is None else padding_BT.to(place))
    return max(difference(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def is_fused(spec: Kind, device: str, length: int, position: Position | None) -> bool:
    """Tells whether attention to few keys uses its fused form on that device."""
    pattern: Any = build(spec, HIDDEN, length, "causal" in spec.forms, position).pattern
    heads = int(getattr(spec, "heads", 1))
    return flex.pays(torch.empty(1, length, heads, HIDDEN // heads, device=checked_device(device)), pattern)


def _passes(layer: nn.Module, x_BTD: Tensor, padding_BT: Tensor | None) -> list[Tensor]:
    """Returns the output at the tokens that are not padding, and the gradients of a sum of it."""
    x_BTD = x_BTD.clone().requires_grad_()
    y_BTD = layer(x_BTD) if padding_BT is None else layer(x_BTD, padding_BT=padding_BT) * ~padding_BT[..., None]
    weights = torch.linspace(-1, 1, y_BTD.size(-1), device=y_BTD.device, dtype=y_BTD.dtype)
    y_BTD.mul(weights).sum().backward()
    return [y_BTD, *(t.grad for t in (x_BTD, *layer.parameters()) if t.grad is not None)]
