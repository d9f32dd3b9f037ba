"""The decoder: shapes of its start, decoding, costs, and what it refuses."""

import math

import pytest
import torch

from nas.architecture import Architecture, Block, FeedForward
from nas.attention import MODULES
from nas.errors import UsageError
from nas.kinds import Cosine, Linear, NoAttention, Softmax, Window
from nas.models import Decoder, build
from tests.models.parts import counted_flops, far_from_start, real_bytes

VOCABULARY, CONTEXT = 31, 48
CAUSAL = [kind for kind in MODULES if "causal" in kind.forms]
MIXED = (Softmax(kv_heads=2), Window(window=7, kv_heads=1), Linear(heads=2), Cosine())


def decoder_of(*kinds, hidden=32, feed_forward=None, vocabulary=VOCABULARY) -> Decoder:
    torch.manual_seed(0)
    blocks = [Block(attention=kind, feed_forward=feed_forward or FeedForward()) for kind in kinds]
    return build(Architecture(hidden=hidden, blocks=tuple(blocks)), vocabulary, CONTEXT)


def tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(1))


def assert_decodes_as_it_reads(model: Decoder) -> None:
    read = tokens(2, CONTEXT)
    with torch.no_grad():
        full = model(read)
    state = model.new_state(2, CONTEXT)
    parts = [model.prefill(read[:, :20], state), model.prefill(read[:, 20:33], state)]
    parts += [model.decode_step(read[:, t], state)[:, None] for t in range(33, CONTEXT)]
    assert state.length == state.context == CONTEXT
    torch.testing.assert_close(torch.cat(parts, dim=1), full, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kinds", [*([kind()] * 4 for kind in CAUSAL), MIXED], ids=lambda k: "+".join(map(str, k)))
def test_four_layers_decode_as_they_read(kinds):
    model = decoder_of(*kinds)
    far_from_start(model.stack)
    assert_decodes_as_it_reads(model)


BLOCKS: dict[str, list[dict]] = {
    "plain": [{}] * 2,
    **{residual: [{"residual": residual, "norm": "layer"}] * 2 for residual in ("sequential", "parallel", "post")},
    **{kind: [{"feed_forward": {"kind": kind}}] * 2 for kind in ("relu2", "none")},
    "biases": [{"feed_forward": {"kind": "gelu", "bias": True}, "attention": {"kind": "softmax", "bias": True}}] * 2,
    **{position: [{"position": position}] * 2 for position in ("rope", "alibi", "learned", "sinusoidal", "none")},
    "no attention": [{"attention": {"kind": "none"}}, {}, {"attention": {"kind": "none"}, "position": "learned"}],
    "mixed": [
        {"position": "none", "residual": "post"},
        {"position": "learned", "residual": "parallel", "feed_forward": {"kind": "relu2", "ratio": 2}},
        {"position": "learned", "attention": {"kind": "linear"}, "norm": "layer", "feed_forward": {"kind": "none"}},
        {"position": "sinusoidal", "attention": {"kind": "window", "window": 5}},
    ],
}
"""Besides what a block has by default."""


@pytest.mark.parametrize("model_wide", [{}, {"repeat": 2, "tied": False}], ids=["once", "twice, untied"])
@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
def test_every_block_decodes_as_it_reads_at_the_stated_costs(blocks, model_wide):
    blocks = [{"attention": {"kind": "softmax"}, **block} for block in blocks]
    torch.manual_seed(0)
    model = build(Architecture(hidden=32, blocks=blocks, **model_wide), VOCABULARY, CONTEXT)
    far_from_start(model)
    assert_decodes_as_it_reads(model)
    assert model.flops(CONTEXT) == counted_flops(lambda: model(tokens(1, CONTEXT)))
    assert model.state_bytes(2, 30) == real_bytes(model.new_state(2, 30))
    before, changed = model(tokens(2, CONTEXT)), tokens(2, CONTEXT)
    changed[:, 20:] = (changed[:, 20:] + 1) % VOCABULARY
    torch.testing.assert_close(model(changed)[:, :20], before[:, :20], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("position", ["rope", "alibi", "learned", "sinusoidal"])
def test_knows_the_order_of_its_tokens(position):
    model = Architecture(hidden=32, blocks=({"attention": {"kind": "softmax"}, "position": position},))
    torch.manual_seed(0)
    model = far_from_start(build(model, VOCABULARY, CONTEXT))
    read = tokens(1, 9)
    turned = torch.cat((read[:, :8].flip(1), read[:, 8:]), dim=1)
    assert (model(read)[:, 8] - model(turned)[:, 8]).abs().max() > 1e-3


@pytest.mark.parametrize("hidden", [32, 128, 256])
@pytest.mark.parametrize("kind", CAUSAL)
def test_starts_out_knowing_nothing(kind, hidden):
    model = decoder_of(kind(), kind(), hidden=hidden, vocabulary=65)
    read = tokens(8, 33)
    loss = torch.nn.functional.cross_entropy(model(read[:, :-1]).flatten(0, 1), read[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(65), abs=0.1)


@pytest.mark.parametrize("feed_forward", [FeedForward(), FeedForward(kind="gelu", ratio=3)], ids=str)
@pytest.mark.parametrize("kind", CAUSAL)
def test_learns(kind, feed_forward):
    model = decoder_of(kind(), kind(), feed_forward=feed_forward)
    read = tokens(4, 25)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(model(read[:, :-1]).flatten(0, 1), read[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.6 * math.log(VOCABULARY)
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


@pytest.mark.parametrize("feed_forward", [FeedForward(), FeedForward(kind="gelu", ratio=3)], ids=str)
def test_stated_flops_are_the_counted_ones(feed_forward):
    model = decoder_of(*MIXED, feed_forward=feed_forward)
    assert model.flops(CONTEXT) == counted_flops(lambda: model(tokens(1, CONTEXT)))


def test_stated_state_is_the_real_one():
    model = decoder_of(*MIXED)
    assert model.state_bytes(3, 40) == real_bytes(model.new_state(3, 40))


def test_the_embedding_is_the_output_head_and_nothing_has_a_bias():
    model = decoder_of(*MIXED)
    assert [name for name, _ in model.named_parameters() if "embedding" in name or "head" in name] == [
        "vocabulary.embedding.weight"
    ]
    assert not [name for name, _ in model.named_parameters() if "bias" in name]


def test_the_seed_decides_the_weights():
    first, second = decoder_of(*MIXED), decoder_of(*MIXED)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_says_when_tokens_exceed_the_context():
    model = decoder_of(*MIXED)
    with pytest.raises(UsageError, match=f"{CONTEXT + 1} tokens exceed context={CONTEXT}"):
        model(tokens(1, CONTEXT + 1))
    state = model.new_state(1, 10)
    with pytest.raises(UsageError, match="0 tokens seen and 11 more exceed the decode state's context=10"):
        model.prefill(tokens(1, 11), state)
    model.prefill(tokens(1, 10), state)
    with pytest.raises(UsageError, match="10 tokens seen and 1 more"):
        model.decode_step(tokens(1, 1)[:, 0], state)
    with pytest.raises(UsageError, match=f"must be 1 to {CONTEXT}"):
        model.new_state(1, CONTEXT + 1)


@pytest.mark.parametrize("size", [{"vocabulary": 0}, {"context": 0}], ids=str)
def test_says_which_size_is_impossible(size):
    with pytest.raises(UsageError, match=r"(vocabulary|context)=0 must be at least 1"):
        build(Architecture(hidden=8, blocks=(Block(attention=Softmax()),)), **size)


@pytest.mark.parametrize("residual", ["sequential", "post"])
def test_attention_maps_are_the_weights_of_what_each_attention_reads(residual):
    blocks = tuple(Block(attention=kind, residual=residual) for kind in (*MIXED, NoAttention(), Softmax()))
    torch.manual_seed(0)
    model = far_from_start(build(Architecture(hidden=32, blocks=blocks), VOCABULARY, CONTEXT))
    read, seen = tokens(2, 11), []
    for block in model.stack.blocks:
        block.attention.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(read)
    attentions = [block.attention for block in model.stack.blocks if block.attention.spec.kind != "none"]
    expected = [attention.weights(x) for attention, x in zip(attentions, seen, strict=True)]
    expected.insert(4, None)
    maps = model.attention_maps(read)
    assert [None if m is None else tuple(m.shape) for m in maps] == [
        None if heads is None else (2, heads, 11, 11) for heads in (4, 4, 2, 4, None, 4)
    ]
    torch.testing.assert_close([m for m in maps if m is not None], [e for e in expected if e is not None])


@pytest.mark.parametrize("position", ["rope", "alibi", "learned", "sinusoidal", "none"])
def test_says_when_tokens_exceed_the_context_at_every_position(position):
    blocks = ({"attention": {"kind": "softmax"}, "position": position},)
    model = build(Architecture(hidden=32, blocks=blocks), VOCABULARY, context=8)
    with pytest.raises(UsageError, match="9 tokens exceed context=8"):
        model(tokens(1, 9))
    state = model.new_state(1, 8)
    model.prefill(tokens(1, 8), state)
    with pytest.raises(UsageError, match=r"8 tokens seen and 1 more exceed|9 tokens exceed context=8"):
        model.decode_step(tokens(1, 1)[:, 0], state)


def test_blocks_without_attention_say_so_too():
    with pytest.raises(UsageError, match=f"{CONTEXT + 1} tokens exceed context={CONTEXT}"):
        decoder_of(NoAttention(), NoAttention())(tokens(1, CONTEXT + 1))
