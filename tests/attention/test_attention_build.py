"""Building a module from its spec."""

import pytest
import torch

from nas.architecture import ATTENTION_SPECS, Headed, Softmax
from nas.attention import MODULES, build
from nas.errors import InvalidArchitecture, UsageError


def test_every_spec_has_a_module():
    assert set(MODULES) == set(ATTENTION_SPECS.values())
    for spec, module in MODULES.items():
        assert type(build(spec(heads=2), hidden=8, context=16)) is module


@pytest.mark.parametrize("kind", MODULES)
def test_the_stacked_matrices_can_be_taken_apart(kind):
    layer = build(kind(heads=4), hidden=16, context=8)
    x = torch.randn(2, 3, 16)
    parts = layer.qkv.weight.split(layer.qkv.heights)
    assert len(parts) == 3
    torch.testing.assert_close(torch.cat([x @ part.T for part in parts], dim=-1), layer.qkv(x))


def test_says_what_cannot_be_built():
    with pytest.raises(InvalidArchitecture, match=r"attention\.heads=3 must divide hidden=8; use one of 1, 2, 4, 8"):
        build(Softmax(heads=3), hidden=8, context=16)
    with pytest.raises(UsageError, match="context=0 must be at least 1 token"):
        build(Softmax(heads=2), hidden=8, context=0)


def test_says_when_a_spec_has_no_module():
    with pytest.raises(InvalidArchitecture, match="has no module; use one of Softmax, Cosine"):
        build(Headed(kind="new", heads=2), hidden=8, context=16)
