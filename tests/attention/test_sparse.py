"""Attention to few keys a query: every form of it, the linear cost, and the fused form's meaning."""

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nas.attention import build, flex
from nas.attention.gathered import Pattern
from nas.kinds import BlockSparse, Grouped, Window
from tests.attention.test_attention_contract import assert_same, definition, in_pieces, layer_of, named

SPECS = [
    Window(window=20),
    Window(window=5, kv_heads=2, global_tokens=3),
    Window(window=17, kv_heads=1, global_tokens=20),
    BlockSparse(block=4, stride=2, far=2, kv_heads=2),
    BlockSparse(block=3, stride=3, far=1),
]
of_specs = pytest.mark.parametrize("spec", SPECS, ids=named)
of_positions = pytest.mark.parametrize("position", ["rope", "alibi"])
of_forms = pytest.mark.parametrize("causal", [True, False], ids=named)


def padding_of(length: int) -> Tensor:
    """Of two sequences, the first padded at its end, the second at its start and in the middle."""
    padding = torch.zeros(2, length, dtype=torch.bool)
    padding[0, length - 7 :] = padding[1, :6] = padding[1, 30:41] = True
    return padding


@pytest.mark.slow
@pytest.mark.parametrize(("padded", "more"), [(False, 1), (False, 21), (True, 6)])
@of_forms
@of_positions
@of_specs
def test_blocks_equal_the_definition(spec: Grouped, position, causal, padded, more):
    layer = layer_of(spec, causal, position=position)
    length = layer.pattern.keys + more
    x = torch.randn(2, length, 32, requires_grad=True)
    padding = padding_of(length) if padded else None
    keep = 1.0 if padding is None else ~padding[..., None]
    fast, slow = layer(x, padding_BT=padding), definition(layer, x, padding=padding)
    assert fast.isfinite().all()
    assert_same(layer, fast * keep, slow * keep, x)


@pytest.mark.parametrize("length", [2, 7, 19, 23, 59])
@of_specs
@torch.inference_mode()
def test_the_ring_holds_what_is_seen(spec, length):
    layer = layer_of(spec, context=length, position="alibi")
    x = torch.randn(2, length, 32)
    half, rest = length // 2, length - length // 2
    for pieces in ([1] * length, [half, rest], [half, *[1] * rest], [*[1] * half, rest]):
        torch.testing.assert_close(in_pieces(layer, x, pieces), layer(x), atol=1e-5, rtol=1e-4)


class Largest(TorchDispatchMode):
    """The values of the largest tensor that any operation made; views of what it was given are none."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        given = {tensor.untyped_storage().data_ptr() for tensor in tree_leaves(args) if isinstance(tensor, Tensor)}
        made = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in given:
                self.values = max(self.values, tensor.untyped_storage().nbytes() // tensor.element_size())
        return made


def largest(run) -> int:
    with torch.inference_mode(), Largest() as seen:
        run()
    return seen.values


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@of_forms
@of_positions
@of_specs
def test_memory_is_linear_in_the_length(spec, position, causal, padded):
    layer = build(spec, 32, 4096, causal, position)
    few, many = (
        largest(
            lambda T=T: layer(torch.randn(1, T, 32), padding_BT=torch.zeros(1, T, dtype=torch.bool) if padded else None)
        )
        for T in (1024, 4096)
    )
    assert many <= 4.2 * few


@of_specs
def test_a_step_reads_what_is_visible(spec):
    layer = build(spec, 32, 4096)
    state = layer.new_state(1, 4096)
    state.advance(3000)
    assert largest(lambda: layer.step(torch.randn(1, 1, 32), state)) <= max(layer.pattern.keys * layer.kv_width, 3 * 32)


def fused(layer, x: Tensor, padding: Tensor | None) -> Tensor:
    heads = layer._project_turned(x)
    return layer.out(flex.attend_fused(layer.pattern.sees, *heads, layer.alibi, padding))


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@of_forms
@of_positions
@pytest.mark.parametrize("spec", SPECS[1:4], ids=named)
@torch.inference_mode()
def test_the_fused_form_means_the_same(spec, position, causal, padded, monkeypatch):
    # Its definition is traced too, and what the tests wrap every function in, to check shapes, cannot be.
    monkeypatch.setattr("torch.nn.attention.flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    layer = layer_of(spec, causal, position=position)
    x = torch.randn(2, 133, 32)
    padding = padding_of(133) if padded else None
    torch.testing.assert_close(fused(layer, x, padding), layer(x, padding_BT=padding), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("tokens", [1, 128, 300, 897])
@of_forms
@pytest.mark.parametrize("spec", [*SPECS, Window(window=300, global_tokens=2), BlockSparse(block=130)], ids=named)
def test_the_tiles_are_those_of_the_rule(spec, causal, tokens):
    rule = build(spec, 32, 1024, causal).pattern.sees
    made = flex.block_mask(rule, tokens, torch.device("cpu"))
    expected = create_block_mask(lambda b, h, t, s: rule(t, s), 1, 1, tokens, tokens, device="cpu")
    assert made.shape == expected.shape
    for ours, theirs in zip(made.as_tuple(), expected.as_tuple(), strict=True):
        if isinstance(theirs, Tensor):
            torch.testing.assert_close(ours, theirs)


def test_the_tiles_are_kept_and_serve_training_too():
    rule = build(Window(), 32, 1024).pattern.sees
    with torch.inference_mode():
        made = flex.block_mask(rule, 200, torch.device("cpu"))
    assert not any(part.is_inference() for part in made.as_tuple() if isinstance(part, Tensor))
    assert flex.block_mask(build(Window(), 64, 512).pattern.sees, 200, torch.device("cpu")) is made


def test_the_fused_form_is_for_gpus():
    layer = build(Window(), 32, 4096)
    assert not flex.pays(torch.zeros(1, 4096, 4, 8), layer.pattern)


def test_blocks_that_are_alike():
    pattern = Pattern(lambda t, s: t == s, block=4, reach=(-2, -1, 0, 1), leading=5)
    assert pattern.keys == 21
    assert pattern.runs(tokens=42, base=0) == (4, 9, 11)
    assert pattern.runs(tokens=42, base=5) == (2, 9, 11)
    assert pattern.runs(tokens=3, base=0) == (1, 1, 1)
