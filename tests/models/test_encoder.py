"""The encoder: it sees both ways, ignores padding, fills in masked tokens, and pools."""

import math

import pytest
import torch

from nas.architecture import Architecture
from nas.attention import MODULES
from nas.errors import UsageError
from nas.models import Encoder, Head, build
from tests.models.parts import (
    CONTEXT,
    VOCABULARY,
    built,
    counted_flops,
    expected_loss,
    far_from_start,
    loss_after,
    loss_of,
    tokens,
)

BIDIRECTIONAL = [kind.model_fields["kind"].default for kind in MODULES if "bidirectional" in kind.forms]
BERT = {
    "attention": {"kind": "softmax", "bias": True},
    "feed_forward": {"kind": "gelu", "bias": True},
    "position": "learned",
    "norm": "layer",
    "residual": "post",
}
BLOCKS = {**{kind: {"attention": {"kind": kind}} for kind in BIDIRECTIONAL}, "bert": BERT}
of_blocks = pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)


def encoder_of(block: dict, vocabulary: int = VOCABULARY, **fields: object) -> Encoder:
    return built(Architecture(**{"family": "encoder", "hidden": 32, "blocks": [block] * 2, **fields}), vocabulary)


@of_blocks
def test_padding_changes_nothing(block):
    model = far_from_start(encoder_of(block))
    read = tokens(2, 13)
    longer, padding = torch.cat((read, tokens(2, 5, seed=2)), dim=1), (torch.arange(18) >= 13).expand(2, 18)
    torch.testing.assert_close(model(longer, padding)[:, :13], model(read), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.pooled(longer, padding), model.pooled(read), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("block", [block for name, block in BLOCKS.items() if name != "none"], ids=str)
def test_sees_both_ways(block):
    model = far_from_start(encoder_of(block))
    read = tokens(1, 9)
    first, last = read.clone(), read.clone()
    first[0, 0], last[0, 8] = (read[0, 0] + 1) % VOCABULARY, (read[0, 8] + 1) % VOCABULARY
    for changed in (first, last):
        assert (model(changed)[0, 4] - model(read)[0, 4]).abs().max() > 1e-4


@of_blocks
def test_stated_flops_are_the_counted_ones(block):
    for fields in ({}, {"repeat": 2, "tied": False}):
        model = encoder_of(block, **fields)
        assert model.flops(CONTEXT) == counted_flops(lambda model=model: model(tokens(1, CONTEXT)))
    assert model.state_bytes(4, CONTEXT) == 0


@of_blocks
def test_stated_flops_of_other_heads_are_the_counted_ones(block):
    classes = Head("classes", ("a", "b", "c"))
    for head, pooling in ((classes, "mean"), (classes, "first"), (Head("span"), "mean")):
        architecture = Architecture(family="encoder", hidden=32, blocks=[block] * 2, pooling=pooling)
        model = build(architecture, VOCABULARY, CONTEXT, head)
        assert model.flops(CONTEXT) == counted_flops(lambda model=model: model(tokens(1, CONTEXT)))


def test_other_heads_start_out_guessing_evenly():
    architecture = Architecture(family="encoder", hidden=32, blocks=[BERT])
    assert not build(architecture, head=Head("classes", ("a", "b")))(tokens(3, 9)).any()
    ends = build(architecture, head=Head("span"))(tokens(3, 9))
    assert ends.shape == (3, 2, 9)
    assert not ends.any()


def test_a_decoder_tells_no_classes():
    with pytest.raises(UsageError, match="an encoder does"):
        build(Architecture(hidden=32, blocks=[{"attention": {"kind": "softmax"}}]), head=Head("span"))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("hidden", [32, 128])
@of_blocks
def test_starts_out_knowing_nothing(block, hidden, tied):
    model = encoder_of(block, vocabulary=65, hidden=hidden, tied=tied)
    assert expected_loss(model(tokens(8, CONTEXT))) == pytest.approx(math.log(65), abs=0.1)


@of_blocks
def test_learns_what_is_masked(block):
    model, read = encoder_of(block), tokens(4, 20)
    masked = (torch.arange(20) % 5 == 2).expand(4, 20)
    shown = read.masked_fill(masked, 0)
    loss = loss_after(model, lambda _: loss_of(model(shown)[masked][None], read[masked]), 30)
    # Without attention, a masked token and its place are all that is seen.
    most = 1.0 if block["attention"]["kind"] == "none" else 0.6
    assert loss < most * math.log(VOCABULARY)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_is_that_of_bert(tied):
    model = far_from_start(encoder_of(BERT, tied=tied))
    read = tokens(2, 7)
    h = torch.nn.functional.gelu(model.encode(read) @ model.transform.weight.T + model.transform.bias)
    h = (h - h.mean(-1, keepdim=True)) / (h.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    h = h * model.norm.weight + model.norm.bias
    table = (model.vocabulary.embedding if tied else model.vocabulary.head).weight
    torch.testing.assert_close(model(read), 8 * h @ table.T + model.bias_V, atol=1e-4, rtol=1e-4)


def test_pools_by_the_mean_or_the_first_token():
    mean = far_from_start(encoder_of(BERT))
    first = far_from_start(encoder_of(BERT, pooling="first"))
    read, padding = tokens(3, 6), torch.zeros(3, 6, dtype=torch.bool)
    padding[0, 4:] = padding[1, :2] = padding[2] = True
    vectors = mean.encode(read, padding)
    expected = torch.stack((vectors[0, :4].mean(0), vectors[1, 2:].mean(0), torch.zeros(32)))
    torch.testing.assert_close(mean.pooled(read, padding), expected)
    torch.testing.assert_close(mean.pooled(read), mean.encode(read).mean(1))
    vectors = first.encode(read, padding)
    torch.testing.assert_close(first.pooled(read, padding)[:2], torch.stack((vectors[0, 0], vectors[1, 2])))
    torch.testing.assert_close(first.pooled(read), first.encode(read)[:, 0])


@of_blocks
def test_attention_maps_are_the_weights_of_what_each_attention_reads(block):
    model = far_from_start(encoder_of(block))
    read, padding, seen = tokens(2, 9), torch.zeros(2, 9, dtype=torch.bool), []
    padding[1, 6:] = True
    for layer in model.stack.blocks:
        layer.attention.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(read, padding)
    maps = model.attention_maps(read, padding)
    del seen[2:]  # reading for the maps is seen as well
    if block["attention"]["kind"] == "none":
        assert maps == [None, None]
        return
    for layer, x, weights in zip(model.stack.blocks, seen, maps, strict=True):
        assert weights.shape == (2, layer.attention.heads, 9, 9)
        torch.testing.assert_close(weights, layer.attention.weights(x, padding_BT=padding))


def test_cannot_decode_and_says_when_tokens_exceed_the_context():
    model = encoder_of(BERT)
    assert not any(hasattr(model, name) for name in ("new_state", "prefill", "decode_step", "generate"))
    with pytest.raises(UsageError, match=f"{CONTEXT + 1} tokens exceed context={CONTEXT}"):
        model(tokens(1, CONTEXT + 1))
