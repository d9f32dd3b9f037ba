"""Long sequences, segment by segment: cut small here, so that slow definitions can follow."""

import pytest
import torch

from nas.attention import chunks, delta_rule, kernel, recurrent_form
from nas.kinds import GatedDelta, GatedLinear, Linear, Performer, Retention
from tests.attention.test_attention_contract import HIDDEN, assert_same, counted_flops, definition, in_pieces, layer_of


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch):
    monkeypatch.setattr(kernel, "CHUNK", 4)
    monkeypatch.setattr(recurrent_form, "CHUNK", 4)
    monkeypatch.setattr(delta_rule, "CHUNK", 4)
    monkeypatch.setattr(chunks, "SEGMENT", 12)


@pytest.mark.parametrize("length", [3, 12, 13, 29])
@pytest.mark.parametrize(
    "spec", [Linear(), Performer(features=8), Retention(), GatedLinear(), GatedDelta(), GatedDelta(conv=0)], ids=str
)
def test_segments_change_nothing(spec, length):
    layer = layer_of(spec)
    x = torch.randn(2, length, HIDDEN, requires_grad=True)
    padding = torch.zeros(2, length, dtype=torch.bool)
    padding[0, length // 2 :] = padding[1, : length // 3] = True
    assert_same(layer, layer(x), definition(layer, x), x)
    keep = ~padding[..., None]
    assert_same(layer, layer(x, padding_BT=padding) * keep, definition(layer, x, padding=padding) * keep, x)
    assert layer.flops(length) == counted_flops(lambda: layer(x[:1]))
    torch.testing.assert_close(in_pieces(layer, x, [1, length - 2, 1]), layer(x), atol=1e-5, rtol=1e-4)
