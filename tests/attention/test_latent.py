"""Latent attention beyond the contract: what decoding does not compute."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nas.attention import build
from nas.kinds import Latent


def step_flops(layer, before: int) -> int:
    """Of one token behind so many."""
    state = layer.new_state(1, before + 1)
    layer.step(torch.randn(1, before, layer.hidden), state)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        layer.step(torch.randn(1, 1, layer.hidden), state)
    return counter.get_total_flops()


def test_decoding_makes_no_keys_and_values_of_what_is_kept():
    H, E, L, R = 4, 8, 12, 6
    layer = build(Latent(heads=H, latent=L, rope_size=R), hidden=H * E, context=64)
    # A token more costs its product with every head's query and its share in every head's mixture, no matrix.
    assert step_flops(layer, 51) - step_flops(layer, 11) == 40 * 4 * H * (L + R)
