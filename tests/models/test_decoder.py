"""The decoder: shapes of its start, decoding, costs, and what it refuses."""

import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nas.architecture import Architecture, Block, Cosine, FeedForward, Linear, Softmax, Window
from nas.attention import MODULES
from nas.errors import UsageError
from nas.models import Decoder, build

VOCABULARY, CONTEXT = 31, 48
MIXED = (Softmax(kv_heads=2), Window(window=7, kv_heads=1), Linear(heads=2), Cosine())


def decoder_of(*kinds, hidden=32, feed_forward=None, vocabulary=VOCABULARY) -> Decoder:
    torch.manual_seed(0)
    blocks = [Block(attention=kind, feed_forward=feed_forward or FeedForward()) for kind in kinds]
    return build(Architecture(hidden=hidden, blocks=tuple(blocks)), vocabulary, CONTEXT)


def tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kinds", [*([kind()] * 4 for kind in MODULES), MIXED], ids=lambda k: "+".join(map(str, k)))
def test_four_layers_decode_as_they_read(kinds):
    model = decoder_of(*kinds)
    with torch.no_grad():
        for block in model.blocks:
            for weight in block.parameters():
                weight.add_(torch.randn_like(weight) * 0.1)
        read = tokens(2, CONTEXT)
        full = model(read)
    state = model.new_state(2, CONTEXT)
    parts = [model.prefill(read[:, :20], state), model.prefill(read[:, 20:33], state)]
    parts += [model.decode_step(read[:, t], state)[:, None] for t in range(33, CONTEXT)]
    assert state.length == state.context == CONTEXT
    torch.testing.assert_close(torch.cat(parts, dim=1), full, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("hidden", [32, 128, 256])
@pytest.mark.parametrize("kind", MODULES)
def test_starts_out_knowing_nothing(kind, hidden):
    model = decoder_of(kind(), kind(), hidden=hidden, vocabulary=65)
    read = tokens(8, 33)
    loss = torch.nn.functional.cross_entropy(model(read[:, :-1]).flatten(0, 1), read[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(65), abs=0.1)


@pytest.mark.parametrize("feed_forward", [FeedForward(), FeedForward(kind="gelu", ratio=3)], ids=str)
@pytest.mark.parametrize("kind", MODULES)
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
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens(1, CONTEXT))
    assert model.flops(CONTEXT) == counter.get_total_flops()


def test_stated_state_is_the_real_one():
    model = decoder_of(*MIXED)
    state = model.new_state(3, 40)
    tensors = [t for layer in state.layers for t in vars(layer).values() if isinstance(t, torch.Tensor)]
    assert model.state_bytes(3, 40) == sum(t.untyped_storage().nbytes() for t in tensors)


def test_the_embedding_is_the_output_head_and_nothing_has_a_bias():
    model = decoder_of(*MIXED)
    assert [name for name, _ in model.named_parameters() if "embedding" in name or "head" in name] == [
        "embedding.weight"
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
