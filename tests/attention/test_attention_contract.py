"""What every attention mechanism promises, for the whole table: a new kind is tested by its line there."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nas.attention import MODULES, Attention, build
from nas.errors import InvalidArchitecture, UsageError
from nas.kinds import BlockSparse, Differential, GatedDelta, Grouped, Headed, Kind, Latent, Position, Softmax, Window
from tests.reference import DEFINITIONS

HIDDEN, CONTEXT = 32, 160

VARIANTS: dict[type[Kind], list[Kind]] = {
    Softmax: [Softmax(qk_norm=True, kv_heads=2), Softmax(gate=True, bias=True), Softmax(heads=3, head_size=6)],
    Latent: [Latent(latent=7, rope_size=6)],
    Differential: [Differential(heads=2, subtracted=0.0)],
    Window: [
        Window(window=1),
        Window(window=5, kv_heads=2),
        *(Window(window=5, kv_heads=2, global_tokens=g) for g in (1, 5)),
    ],
    BlockSparse: [BlockSparse(block=4, stride=2, far=2, kv_heads=2)],
    GatedDelta: [GatedDelta(conv=0), GatedDelta(conv=1)],
}
"""Besides the kind with its defaults, and with fewer heads of keys and values where it can have them."""


def specs_of(kind: type[Kind]) -> list[Kind]:
    grouped = [kind(kv_heads=k) for k in (1, 2)] if issubclass(kind, Grouped) else []
    sized = [kind(heads=2, head_size=12)] if issubclass(kind, Headed) else []
    return [kind(), *grouped, *sized, *VARIANTS.get(kind, [])]


KINDS = [kind() for kind in MODULES]
SPECS = [spec for kind in MODULES for spec in specs_of(kind)]
CAUSAL = [spec for spec in SPECS if "causal" in spec.forms]
CROSSING = [spec for spec in SPECS if "cross" in spec.forms]
FORMS = [(spec, form == "causal") for spec in SPECS for form in spec.forms if form != "cross"]
POSITIONED = [(kind(), p) for kind in MODULES for p in kind.positions if p not in ("learned", "sinusoidal")]
"""Every kind with every position that is the attention's own affair."""


def named(value: object) -> str:
    return str(value) if isinstance(value, Kind) else {True: "causal", False: "bidirectional"}.get(value, repr(value))


of_specs = pytest.mark.parametrize("spec", SPECS, ids=named)
of_causal = pytest.mark.parametrize("spec", CAUSAL, ids=named)
of_forms = pytest.mark.parametrize(("spec", "causal"), FORMS, ids=named)
of_kinds = pytest.mark.parametrize("spec", KINDS, ids=named)


def layer_of(
    spec: Kind,
    causal: bool | None = None,
    hidden: int = HIDDEN,
    context: int = CONTEXT,
    position: Position | None = None,
) -> Attention:
    torch.manual_seed(0)
    layer = build(spec, hidden, context, "causal" in spec.forms if causal is None else causal, position)
    with torch.no_grad():
        for weight in layer.parameters():
            # Larger than at the start of training, so that the scores are far from uniform.
            weight.add_(torch.randn_like(weight) * 0.3)
    return layer


def definition(layer: Attention, x: torch.Tensor, memory=None, padding=None) -> torch.Tensor:
    return DEFINITIONS[type(layer.spec)](layer, x, memory, padding)[0]


def assert_same(layer: Attention, fast: torch.Tensor, slow: torch.Tensor, *inputs: torch.Tensor) -> None:
    """Outputs and the gradients of every input and weight."""
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-4)
    sources = [*inputs, *layer.parameters()]
    if not slow.requires_grad:  # a kind that makes nothing of its input
        return
    seed = torch.randn_like(slow) / slow.numel() ** 0.5
    fast_gradients = torch.autograd.grad(fast, sources, seed, materialize_grads=True)
    slow_gradients = torch.autograd.grad(slow, sources, seed, materialize_grads=True)
    for a, b in zip(fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 13])
@of_forms
def test_equals_the_definition_and_its_gradients(spec, causal, length):
    layer = layer_of(spec, causal)
    x = torch.randn(2, length, HIDDEN, requires_grad=True)
    assert_same(layer, layer(x), definition(layer, x), x)


@pytest.mark.parametrize(("spec", "position"), POSITIONED, ids=named)
def test_equals_the_definition_with_every_position(spec, position):
    for causal in ("causal" in spec.forms, "bidirectional" not in spec.forms):
        layer = layer_of(spec, causal, position=position)
        x = torch.randn(1, 21, HIDDEN, requires_grad=True)
        assert_same(layer, layer(x), definition(layer, x), x)


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "causal"), [form for form in FORMS if form[0] in KINDS], ids=named)
def test_equals_the_definition_over_several_chunks_and_windows(spec, causal):
    layer = layer_of(spec, causal)
    x = torch.randn(1, 131, HIDDEN, requires_grad=True)
    assert_same(layer, layer(x), definition(layer, x), x)


@of_forms
def test_ignores_what_is_masked_on_either_side(spec, causal):
    layer = layer_of(spec, causal)
    x = torch.randn(2, 9, HIDDEN, requires_grad=True)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[0, 5:] = padding[1, :2] = padding[1, 4] = True
    keep = ~padding[..., None]
    fast, slow = layer(x, padding_BT=padding), definition(layer, x, padding=padding)
    assert fast.isfinite().all()
    assert_same(layer, fast * keep, slow * keep, x)


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "causal"), [form for form in FORMS if form[0] in KINDS], ids=named)
def test_ignores_what_is_masked_over_several_chunks_and_windows(spec, causal):
    layer = layer_of(spec, causal)
    x = torch.randn(2, 77, HIDDEN, requires_grad=True)
    padding = torch.zeros(2, 77, dtype=torch.bool)
    padding[0, 70:] = padding[1, :35] = padding[1, 50:53] = True
    keep = ~padding[..., None]
    assert_same(layer, layer(x, padding_BT=padding) * keep, definition(layer, x, padding=padding) * keep, x)


@of_forms
def test_padding_changes_nothing(spec, causal):
    layer = layer_of(spec, causal)
    x = torch.randn(2, 37, HIDDEN)
    longer = torch.cat((x, torch.randn(2, 34, HIDDEN)), dim=1)
    padding = (torch.arange(71) >= 37).expand(2, 71)
    torch.testing.assert_close(layer(longer, padding_BT=padding)[:, :37], layer(x), atol=1e-5, rtol=1e-4)


def half_padded() -> torch.Tensor:
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[1, 6:] = True
    return padding


@pytest.mark.parametrize("spec", CROSSING, ids=named)
def test_attends_to_a_memory(spec):
    layer = layer_of(spec, causal=False, position="none")
    x, memory = torch.randn(2, 5, HIDDEN, requires_grad=True), torch.randn(2, 9, HIDDEN, requires_grad=True)
    for padding in (None, half_padded()):
        assert_same(layer, layer(x, memory, padding), definition(layer, x, memory, padding), x, memory)


@pytest.mark.parametrize("spec", CROSSING, ids=named)
def test_a_memory_is_remembered_once(spec):
    layer = layer_of(spec, causal=False, position="none")
    x, memory = torch.randn(2, 5, HIDDEN), torch.randn(2, 9, HIDDEN)
    remembered = layer.remember(memory, half_padded())
    for t in range(5):
        expected = layer(x[:, t : t + 1], memory, half_padded())
        torch.testing.assert_close(layer.recall(x[:, t : t + 1], remembered), expected, atol=1e-5, rtol=1e-4)
    kept = (remembered.keys_BSKE, remembered.values_BSKE)
    assert layer.memory_bytes(2, 9) == sum(tensor.numel() * tensor.element_size() for tensor in kept)


@pytest.mark.parametrize("spec", [spec for spec in KINDS if "cross" not in spec.forms], ids=named)
def test_says_when_it_has_no_place_in_a_memory(spec):
    with pytest.raises(UsageError, match=f"{spec.kind} attention has no cross form"):
        layer_of(spec)(torch.randn(1, 3, HIDDEN), torch.randn(1, 5, HIDDEN))


@pytest.mark.parametrize(("spec", "causal"), [form for form in FORMS if form[0].weighs], ids=named)
def test_weights_are_those_of_the_definition(spec, causal):
    layer = layer_of(spec, causal)
    x, padding = torch.randn(2, 9, HIDDEN), half_padded()
    for ignored in (None, padding):
        weights = layer.weights(x, padding_BT=ignored)
        expected = DEFINITIONS[type(spec)](layer, x, None, ignored)[1]
        torch.testing.assert_close(weights, expected, atol=1e-5, rtol=1e-4)
    if causal:
        assert weights.triu(1).abs().max() == 0


@pytest.mark.parametrize("spec", [spec for spec in CROSSING if spec in KINDS], ids=named)
def test_weights_on_a_memory_are_those_of_the_definition(spec):
    layer = layer_of(spec, causal=False, position="none")
    x, memory = torch.randn(2, 5, HIDDEN), torch.randn(2, 9, HIDDEN)
    expected = DEFINITIONS[type(spec)](layer, x, memory, half_padded())[1]
    torch.testing.assert_close(layer.weights(x, memory, half_padded()), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("spec", [spec for spec in KINDS if not spec.weighs], ids=named)
def test_says_when_it_has_no_weights(spec):
    with pytest.raises(UsageError, match=f"{spec.kind} attention has no attention weights"):
        layer_of(spec).weights(torch.randn(1, 3, HIDDEN))


@of_causal
def test_the_future_cannot_change_the_past(spec):
    layer = layer_of(spec)
    x = torch.randn(2, 77, HIDDEN)
    before = layer(x)
    for t in (1, 20, 66):
        changed = x.clone()
        changed[:, t:] += 10
        after = layer(changed)
        torch.testing.assert_close(after[:, :t], before[:, :t])
        assert (after[:, t] - before[:, t]).abs().max() > 1e-3 or spec.kind == "none"


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
@of_causal
@torch.inference_mode()
def test_prefill_and_steps_equal_the_full_pass(spec, pieces):
    layer = layer_of(spec)
    x = torch.randn(2, sum(pieces), HIDDEN)
    torch.testing.assert_close(in_pieces(layer, x, pieces), layer(x), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
@torch.inference_mode()
def test_prefill_and_steps_equal_the_full_pass_at_any_shape(data):
    kind = data.draw(st.sampled_from([kind for kind in MODULES if "causal" in kind.forms]), label="kind")
    heads, fields = data.draw(st.sampled_from([1, 2, 3, 4, 6]), label="heads"), {}
    hidden = heads * data.draw(st.sampled_from([4, 8, 12]), label="head size")
    if issubclass(kind, Headed):
        fields["heads"] = heads
    if issubclass(kind, Grouped):
        fields["kv_heads"] = data.draw(st.sampled_from([k for k in range(1, heads + 1) if heads % k == 0]), label="kv")
    if kind is Window:
        fields["window"] = data.draw(st.integers(1, 12), label="window")
        fields["global_tokens"] = data.draw(st.integers(0, 6), label="global tokens")
    if kind is BlockSparse:
        fields["block"] = data.draw(st.integers(1, 6), label="block")
        fields["stride"] = data.draw(st.integers(2, 3), label="stride")
        fields["far"] = data.draw(st.integers(1, 2), label="far")
    position = data.draw(st.sampled_from(kind.positions), label="position")
    pieces = data.draw(st.lists(st.sampled_from([1, 1, 1, 2, 5, 13]), min_size=1, max_size=6), label="pieces")
    layer = layer_of(kind(**fields), hidden=hidden, context=sum(pieces), position=position)
    x = torch.randn(data.draw(st.integers(1, 3), label="batch"), sum(pieces), hidden)
    torch.testing.assert_close(in_pieces(layer, x, pieces), layer(x), atol=1e-4, rtol=1e-4)


def counted_flops(run) -> int:
    """The counter sees nothing of the fused CPU kernel, so the plain one is counted: full T², products only."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("length", [1, 37, 131])
@of_forms
def test_stated_flops_are_the_counted_ones(spec, causal, length):
    layer = layer_of(spec, causal)
    assert layer.flops(length) == counted_flops(lambda: layer(torch.randn(1, length, HIDDEN)))


@pytest.mark.parametrize("spec", CROSSING, ids=named)
def test_stated_flops_on_a_memory_are_the_counted_ones(spec):
    layer = layer_of(spec, causal=False, position="none")
    run = lambda: layer(torch.randn(1, 5, HIDDEN), torch.randn(1, 9, HIDDEN))  # noqa: E731  (read on the next line)
    assert layer.flops(5, source=9) == counted_flops(run)


@pytest.mark.parametrize("context", [1, 7, CONTEXT])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@of_causal
def test_stated_state_is_the_real_one(spec, dtype, context):
    layer = layer_of(spec).to(dtype)
    state = layer.new_state(3, context)
    tensors = [value for value in vars(state).values() if isinstance(value, torch.Tensor)]
    assert {t.dtype for t in tensors} <= {dtype}
    assert layer.state_bytes(3, context) == sum(t.untyped_storage().nbytes() for t in tensors)


@pytest.mark.parametrize("spec", [spec for spec in KINDS if spec in CAUSAL], ids=named)
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


@pytest.mark.parametrize("spec", [spec for spec in KINDS if "bidirectional" in spec.forms], ids=named)
def test_who_sees_the_future_cannot_decode(spec):
    with pytest.raises(UsageError, match="causal=False"):
        layer_of(spec, causal=False).new_state(1, 4)


@of_kinds
def test_refuses_the_form_and_the_position_that_it_lacks(spec):
    if "causal" not in spec.forms:
        with pytest.raises(InvalidArchitecture, match="cannot be causal"):
            build(spec, HIDDEN, CONTEXT)
    if not {"bidirectional", "cross"} & set(spec.forms):
        with pytest.raises(InvalidArchitecture, match="is only causal"):
            build(spec, HIDDEN, CONTEXT, causal=False)
    for position in {"rope", "alibi"} - set(spec.positions):
        with pytest.raises(InvalidArchitecture, match=f"takes no position='{position}'; use one of"):
            build(spec, HIDDEN, CONTEXT, "causal" in spec.forms, position)
