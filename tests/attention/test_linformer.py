"""The linformer: how its mixtures start."""

import pytest
import torch
import torch.nn.functional as F

from nas.attention import build
from nas.attention.linformer import stretches
from nas.attention.state import State
from nas.errors import UsageError
from nas.kinds import Linformer, Softmax


def test_a_mixture_starts_as_a_stretch_of_neighbours():
    weight = stretches(rank=4, context=10)
    assert (weight > 0).int().tolist() == [
        [1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
    ]
    torch.testing.assert_close(weight.sum(), torch.tensor(10 * 0.4**0.5))


def test_as_many_mixtures_as_tokens_start_as_softmax():
    torch.manual_seed(0)
    layer, softmax = build(Linformer(rank=12), 16, 12, False, "rope"), build(Softmax(), 16, 12, False)
    softmax.load_state_dict(layer.state_dict(), strict=False)
    x = torch.randn(2, 12, 16)
    torch.testing.assert_close(layer(x), softmax(x))


def test_the_output_keeps_its_size_at_the_start():
    torch.manual_seed(0)
    layer = build(Linformer(rank=32), 64, 512, False)
    torch.nn.init.normal_(layer.qkv.weight, std=1 / 8)
    x = F.rms_norm(torch.randn(2, 512, 64), (64,))
    mixed = layer._project_turned(x)[2].flatten(2)
    values = layer.value_mix_RC @ mixed
    assert values.std().item() == pytest.approx(mixed.std().item(), rel=0.1)


def test_cannot_decode():
    layer = build(Linformer(), 16, 12, False)
    with pytest.raises(UsageError, match="mixes the future"):
        layer.step(torch.randn(1, 1, 16), State(12))
