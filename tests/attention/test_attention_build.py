"""Building a module from its spec."""

import pytest
import torch

from nas.attention import MODULES, build
from nas.attention.stacked import Stacked
from nas.errors import InvalidArchitecture, UsageError
from nas.kinds import ATTENTION_SPECS, Headed, Softmax


def test_every_spec_has_a_module():
    assert set(MODULES) == set(ATTENTION_SPECS.values())
    for spec, module in MODULES.items():
        assert type(build(spec(), hidden=32, context=16, causal="causal" in spec.forms)) is module


@pytest.mark.parametrize("kind", MODULES)
def test_the_stacked_matrices_can_be_taken_apart(kind):
    layer = build(kind(), hidden=32, context=8, causal="causal" in kind.forms)
    for stack in (module for module in layer.modules() if isinstance(module, Stacked)):
        x = torch.randn(2, 3, stack.in_features)
        parts = stack.weight.split(stack.heights)
        assert len(parts) > 1
        torch.testing.assert_close(torch.cat([x @ part.T for part in parts], dim=-1), stack(x))


def test_says_what_cannot_be_built():
    with pytest.raises(InvalidArchitecture, match=r"attention\.heads=3 must divide hidden=8; use one of 1, 2, 4, 8"):
        build(Softmax(heads=3), hidden=8, context=16)
    with pytest.raises(UsageError, match="context=0 must be at least 1 token"):
        build(Softmax(heads=2), hidden=8, context=0)


def test_says_when_a_spec_has_no_module():
    with pytest.raises(InvalidArchitecture, match="has no module; use one of Softmax, Latent"):
        build(Headed(kind="new", heads=2), hidden=8, context=16)
