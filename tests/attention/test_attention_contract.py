"""What every attention mechanism promises, for the whole table: a new kind is tested by its line there."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nas.architecture import Grouped, Headed, Window
from nas.attention import MODULES, Attention, build
from nas.errors import UsageError
from tests.reference import attention as reference

HIDDEN, CONTEXT = 32, 160


def specs_of(kind: type[Headed]) -> list[Headed]:
    grouped = [kind(heads=4, kv_heads=k) for k in (1, 2)] if issubclass(kind, Grouped) else []
    narrow = [Window(heads=4, window=1), Window(heads=4, window=5, kv_heads=2)] if kind is Window else []
    return [kind(heads=4), *grouped, *narrow]


KINDS = [kind(heads=2) for kind in MODULES]
SPECS = [spec for kind in MODULES for spec in specs_of(kind)]
CROSSING = [spec for spec in SPECS if not isinstance(spec, Window)]


def layer_of(spec: Headed, causal: bool = True, hidden: int = HIDDEN, context: int = CONTEXT) -> Attention:
    torch.manual_seed(0)
    layer = build(spec, hidden, context, causal)
    with torch.no_grad():
        for weight in layer.parameters():
            # Larger than at the start of training, so that the scores are far from uniform.
            weight.add_(torch.randn_like(weight) * 0.3)
    return layer


def assert_same(layer: Attention, fast: torch.Tensor, slow: torch.Tensor, *inputs: torch.Tensor) -> None:
    """Outputs and the gradients of every input and weight."""
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-4)
    sources = [*inputs, *layer.parameters()]
    seed = torch.randn_like(slow) / slow.numel() ** 0.5
    for a, b in zip(torch.autograd.grad(fast, sources, seed), torch.autograd.grad(slow, sources, seed), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 2, 13])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_equals_the_definition_and_its_gradients(spec, length, causal):
    layer = layer_of(spec, causal)
    x = torch.randn(2, length, HIDDEN, requires_grad=True)
    assert_same(layer, layer(x), reference(layer, spec, x), x)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("spec", KINDS, ids=str)
def test_equals_the_definition_over_several_chunks_and_windows(spec, causal):
    layer = layer_of(spec, causal)
    x = torch.randn(1, 131, HIDDEN, requires_grad=True)
    assert_same(layer, layer(x), reference(layer, spec, x), x)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_ignores_what_is_masked_on_either_side(spec, causal):
    layer = layer_of(spec, causal)
    x = torch.randn(2, 9, HIDDEN, requires_grad=True)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[0, 5:] = padding[1, :2] = padding[1, 4] = True
    keep = ~padding[..., None]
    fast, slow = layer(x, padding_BT=padding), reference(layer, spec, x, padding_BS=padding)
    assert fast.isfinite().all()
    assert_same(layer, fast * keep, slow * keep, x)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_padding_changes_nothing(spec, causal):
    layer = layer_of(spec, causal)
    x = torch.randn(2, 37, HIDDEN)
    longer = torch.cat((x, torch.randn(2, 34, HIDDEN)), dim=1)
    padding = (torch.arange(71) >= 37).expand(2, 71)
    torch.testing.assert_close(layer(longer, padding_BT=padding)[:, :37], layer(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("spec", CROSSING, ids=str)
def test_attends_to_a_memory(spec):
    layer = layer_of(spec)
    x, memory = torch.randn(2, 5, HIDDEN, requires_grad=True), torch.randn(2, 9, HIDDEN, requires_grad=True)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[1, 6:] = True
    assert_same(layer, layer(x, memory), reference(layer, spec, x, memory), x, memory)
    assert_same(layer, layer(x, memory, padding), reference(layer, spec, x, memory, padding), x, memory)


def test_a_window_has_no_place_in_a_memory():
    with pytest.raises(UsageError, match="memory"):
        layer_of(Window())(torch.randn(1, 3, HIDDEN), torch.randn(1, 5, HIDDEN))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_future_cannot_change_the_past(spec):
    layer = layer_of(spec)
    x = torch.randn(2, 77, HIDDEN)
    before = layer(x)
    for t in (1, 20, 66):
        changed = x.clone()
        changed[:, t:] += 10
        after = layer(changed)
        torch.testing.assert_close(after[:, :t], before[:, :t])
        assert (after[:, t] - before[:, t]).abs().max() > 1e-3


def in_pieces(layer: Attention, x: torch.Tensor, pieces: list[int]) -> torch.Tensor:
    state = layer.new_state(len(x), x.size(1))
    parts = []
    for piece in x.split(pieces, dim=1):
        parts.append(layer.step(piece, state))
        assert state.length == sum(part.size(1) for part in parts)
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize(
    "pieces", [[1] * 12, [70, *[1] * 7], [1, 1, 37, 1, 34, 3], [5, 70, 1, 1], [77]], ids=lambda p: "+".join(map(str, p))
)
@pytest.mark.parametrize("spec", SPECS, ids=str)
@torch.inference_mode()
def test_prefill_and_steps_equal_the_full_pass(spec, pieces):
    layer = layer_of(spec)
    x = torch.randn(2, sum(pieces), HIDDEN)
    torch.testing.assert_close(in_pieces(layer, x, pieces), layer(x), atol=1e-5, rtol=1e-4)


@given(data=st.data())
@settings(max_examples=40, deadline=None, derandomize=True)
@torch.inference_mode()
def test_prefill_and_steps_equal_the_full_pass_at_any_shape(data):
    heads = data.draw(st.sampled_from([1, 2, 3, 4, 6]), label="heads")
    hidden = heads * data.draw(st.sampled_from([2, 6, 8]), label="head size")
    kind = data.draw(st.sampled_from(list(MODULES)), label="kind")
    fields = {"heads": heads}
    if issubclass(kind, Grouped):
        fields["kv_heads"] = data.draw(st.sampled_from([k for k in range(1, heads + 1) if heads % k == 0]), label="kv")
    if kind is Window:
        fields["window"] = data.draw(st.integers(1, 12), label="window")
    pieces = data.draw(st.lists(st.sampled_from([1, 1, 1, 2, 5, 13]), min_size=1, max_size=6), label="pieces")
    layer = layer_of(kind(**fields), hidden=hidden, context=sum(pieces))
    x = torch.randn(data.draw(st.integers(1, 3), label="batch"), sum(pieces), hidden)
    torch.testing.assert_close(in_pieces(layer, x, pieces), layer(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [37, 131])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_stated_flops_are_the_counted_ones(spec, length, causal):
    layer = layer_of(spec, causal)
    # The counter sees nothing of the fused CPU kernel, so the plain one is counted: full T², products only.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        layer(torch.randn(1, length, HIDDEN))
    assert layer.flops(length) == counter.get_total_flops()


@pytest.mark.parametrize("context", [1, 7, CONTEXT])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_stated_state_is_the_real_one(spec, dtype, context):
    layer = layer_of(spec).to(dtype)
    state = layer.new_state(3, context)
    tensors = [value for value in vars(state).values() if isinstance(value, torch.Tensor)]
    assert {t.dtype for t in tensors} == {dtype}
    assert layer.state_bytes(3, context) == sum(t.untyped_storage().nbytes() for t in tensors)


@pytest.mark.parametrize("spec", KINDS, ids=str)
def test_says_when_the_context_is_full(spec):
    layer = layer_of(spec, context=8)
    state = layer.new_state(2, 6)
    layer.step(torch.randn(2, 5, HIDDEN), state)
    with pytest.raises(UsageError, match=r"5 tokens seen and 2 more exceed the decode state's context=6"):
        layer.step(torch.randn(2, 2, HIDDEN), state)
    layer.step(torch.randn(2, 1, HIDDEN), state)
    with pytest.raises(UsageError, match="9 tokens exceed context=8"):
        layer(torch.randn(2, 9, HIDDEN))
    with pytest.raises(UsageError, match=r"context=9 of a decode state must be 1 to 8"):
        layer.new_state(2, 9)


@pytest.mark.parametrize("spec", KINDS, ids=str)
def test_who_sees_the_future_cannot_decode(spec):
    with pytest.raises(UsageError, match="causal=False"):
        layer_of(spec, causal=False).new_state(1, 4)
