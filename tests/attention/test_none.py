"""No attention costs nothing."""

import torch

from nas.attention import build
from nas.kinds import NoAttention


def test_adds_nothing_at_no_cost():
    for causal in (True, False):
        layer = build(NoAttention(), 12, 20, causal)
        assert (layer(torch.randn(2, 7, 12)) == 0).all()
        assert list(layer.parameters()) == list(layer.buffers()) == []
        assert layer.out is None
        assert layer.flops(7) == layer.state_bytes(2, 20) == 0
