"""Every kind trains under autocast in bfloat16: by the CPU's own, which casts as a GPU's does."""

import pytest
import torch

from nas.attention import build
from nas.kinds import ATTENTION_SPECS

KINDS = sorted(ATTENTION_SPECS.keys() - {"none"})


def output_and_gradients(layer, x_BTD, half):
    x_BTD = x_BTD.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y_BTD = layer(x_BTD)
    (y_BTD.float() * torch.linspace(-1, 1, y_BTD.size(-1))).sum().backward()
    return [y_BTD.detach().float(), x_BTD.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # a norm that is not fused then
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_are_close_to_those_in_float32(kind):
    spec = ATTENTION_SPECS[kind].model_validate({"kind": kind})
    torch.manual_seed(0)
    layer, x_BTD = build(spec, 64, 33, "causal" in spec.forms), torch.randn(2, 33, 64)
    plain, half = (output_and_gradients(layer, x_BTD, half) for half in (False, True))
    for expected, found in zip(plain, half, strict=True):
        assert found.dtype == torch.float32
        assert (found - expected).norm() <= 0.08 * expected.norm()
