"""Attention, blocks and recurrent layers against PyTorch's own: outputs, gradients and weights."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nas.architecture import LSTM_LAYER, Block
from nas.attention import Attention, build
from nas.attention.lstm import LstmAttention
from nas.kinds import Softmax
from nas.models.layers import TransformerBlock
from nas.models.lstm_stack import LstmEncoder, LstmStack
from tests.parity.copying import TOLERANCE, assert_same, copy, decoded, matrix, padding_of, stirred, vectors

pytestmark = pytest.mark.slow
HIDDEN, HEADS, TOKENS, SOURCE = 24, 4, 13, 17


def copy_attention_of_torch(ours: Attention, theirs: nn.MultiheadAttention) -> None:
    copy(ours.qkv, matrix(theirs.in_proj_weight, theirs.in_proj_bias))
    copy(ours.out, theirs.out_proj)


def attentions(causal: bool, bias: bool) -> tuple[Attention, nn.MultiheadAttention]:
    theirs = stirred(nn.MultiheadAttention(HIDDEN, HEADS, bias=bias, batch_first=True))
    ours = build(Softmax(heads=HEADS, bias=bias), HIDDEN, SOURCE, causal, position="none")
    copy_attention_of_torch(ours, theirs)
    return ours, theirs


def assert_same_gradients(ours: Tensor, theirs: Tensor, *inputs: Tensor) -> None:
    """Over the size of theirs, whatever that is."""
    seed = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(5))
    for mine, other in zip(*(torch.autograd.grad(y, inputs, seed) for y in (ours, theirs)), strict=True):
        assert_same(mine / other.std(), other / other.std())


with_bias = pytest.mark.parametrize("bias", [False, True], ids=["plain", "biases"])


@with_bias
def test_causal_softmax(bias):
    """`softmax` is nn.MultiheadAttention under a causal mask; prompt and steps together as well."""
    ours, theirs = attentions(True, bias)
    x = vectors(2, TOKENS, HIDDEN).requires_grad_()
    y, weights = theirs(x, x, x, attn_mask=above_diagonal(TOKENS), average_attn_weights=False)
    assert_same(ours(x), y)
    assert_same_gradients(ours(x), y, x)
    assert_same(decoded(ours, x, (6, 1, 1, 5)), y)
    assert_same(ours.weights(x), weights)


@with_bias
def test_softmax_both_ways(bias):
    """`softmax` without causality is nn.MultiheadAttention with `key_padding_mask`, at the tokens that count."""
    ours, theirs = attentions(False, bias)
    x, padding = vectors(2, TOKENS, HIDDEN).requires_grad_(), padding_of(2, TOKENS)
    y, weights = theirs(x, x, x, key_padding_mask=padding, average_attn_weights=False)
    made = ours(x, padding_BT=padding)
    assert_same(made[~padding], y[~padding])
    assert_same_gradients(made[~padding], y[~padding], x)
    assert_same(ours.weights(x, padding_BT=padding), weights)


@with_bias
def test_softmax_to_a_source(bias):
    """`softmax` to a memory is nn.MultiheadAttention whose keys and values are the memory, padded."""
    ours, theirs = attentions(False, bias)
    x, memory = vectors(2, TOKENS, HIDDEN).requires_grad_(), vectors(2, SOURCE, HIDDEN, seed=4).requires_grad_()
    padding = padding_of(2, SOURCE)
    y, weights = theirs(x, memory, memory, key_padding_mask=padding, average_attn_weights=False)
    made = ours(x, memory, padding)
    assert_same(made, y)
    assert_same_gradients(made, y, x, memory)
    assert_same(ours.recall(x, ours.remember(memory, padding)), y)
    assert_same(ours.weights(x, memory, padding), weights)


def above_diagonal(length: int) -> Tensor:
    """True where a query may not look."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)


residuals = pytest.mark.parametrize(("residual", "norm_first"), [("sequential", True), ("post", False)])


def block_of(residual: str, causal: bool, **fields: object) -> TransformerBlock:
    """Learned positions are added in front of the blocks, so that there are none within."""
    parts = {"attention": {"kind": "softmax", "bias": True}, "feed_forward": {"kind": "gelu", "bias": True}}
    block = Block.model_validate({**parts, "position": "none", "norm": "layer", "residual": residual, **fields})
    return TransformerBlock(block, HIDDEN, SOURCE, causal)


def copy_block(ours: TransformerBlock, theirs: nn.Module) -> None:
    copy_attention_of_torch(ours.attention, theirs.self_attn)
    copy(ours.feed_forward.up, theirs.linear1)
    copy(ours.feed_forward.down, theirs.linear2)
    norms = [theirs.norm1, theirs.norm2, *([theirs.norm3] if ours.cross else [])]
    for mine, other in zip(ours.norms, norms, strict=True):
        copy(mine, other)


def layer_of_torch(kind: Callable[..., nn.Module], norm_first: bool) -> nn.Module:
    layer = kind(HIDDEN, HEADS, 4 * HIDDEN, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first)
    # In evaluation they take another path, which leaves out what is padded.
    return stirred(layer).train()


@residuals
def test_encoder_block(residual, norm_first):
    """A block that sees both ways is nn.TransformerEncoderLayer, pre-norm and post-norm, with padding."""
    theirs, ours = layer_of_torch(nn.TransformerEncoderLayer, norm_first), block_of(residual, causal=False)
    copy_block(ours, theirs)
    x, padding = vectors(2, TOKENS, HIDDEN), padding_of(2, TOKENS)
    y = theirs(x, src_key_padding_mask=padding)
    assert_same(ours(x, padding)[~padding], y[~padding])


@residuals
def test_decoder_block(residual, norm_first):
    """A causal block with attention to a source is nn.TransformerDecoderLayer, the source padded."""
    theirs = layer_of_torch(nn.TransformerDecoderLayer, norm_first)
    ours = block_of(residual, causal=True, cross={"kind": "softmax", "bias": True})
    copy_block(ours, theirs)
    copy_attention_of_torch(ours.cross, theirs.multihead_attn)
    x, memory, padding = vectors(2, TOKENS, HIDDEN), vectors(2, SOURCE, HIDDEN, seed=4), padding_of(2, SOURCE)
    y = theirs(x, memory, tgt_mask=above_diagonal(TOKENS), memory_key_padding_mask=padding)
    assert_same(ours(x, memory=ours.cross.remember(memory, padding)), y)


@torch.no_grad()
def copy_lstm(ours: LstmAttention, theirs: nn.LSTM, suffix: str) -> None:
    """Theirs adds two biases, ours one to a fixed start."""
    input_weight, recurrent_weight, *biases = (
        getattr(theirs, f"{name}_{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    ours.input.weight.copy_(input_weight)
    ours.recurrent.weight.copy_(recurrent_weight)
    ours.input.bias.copy_(sum(biases) - ours.start_4D)


def run_packed(theirs: nn.LSTM, x: Tensor, lengths: list[int]) -> Tensor:
    """Sequences of these lengths, 0 behind their ends."""
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    y, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True, total_length=x.size(1))
    return y


LENGTHS = [9, 13]


def test_lstm_layers():
    """A stack of `lstm` layers is nn.LSTM of three layers, alone and on packed sequences of different lengths."""
    theirs = stirred(nn.LSTM(HIDDEN, HIDDEN, num_layers=3, batch_first=True), size=1.2)
    ours = LstmStack([LSTM_LAYER] * 3, HIDDEN, TOKENS)
    for i, layer in enumerate(ours.layers):
        copy_lstm(layer, theirs, f"l{i}")
    x = vectors(2, TOKENS, HIDDEN).requires_grad_()
    y, (last, cells) = theirs(x)
    assert_same(ours(x), y)
    assert_same_gradients(ours(x), y, x)
    state = ours.new_state(2, TOKENS)
    assert_same(torch.cat([ours.step(part, state) for part in x.split([7, 1, 5], dim=1)], dim=1), y)
    for i, held in enumerate(state.layers):
        torch.testing.assert_close(held.output_BD, last[i], atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(held.cell_BD, cells[i], atol=TOLERANCE, rtol=0)
    padding = torch.arange(TOKENS) >= torch.tensor(LENGTHS)[:, None]
    assert_same(ours(x, padding)[~padding], run_packed(theirs, x, LENGTHS)[~padding])


def test_lstm_both_ways():
    """The lowest layer of the LSTM encoder is nn.LSTM(bidirectional=True), its halves summed by the matrix behind."""
    theirs = stirred(nn.LSTM(HIDDEN, HIDDEN, batch_first=True, bidirectional=True), size=1.2)
    ours = LstmEncoder([LSTM_LAYER], HIDDEN, TOKENS)
    copy_lstm(ours.onwards, theirs, "l0")
    copy_lstm(ours.backwards, theirs, "l0_reverse")
    ours.join.weight.data.copy_(torch.eye(HIDDEN).repeat(1, 2))
    x, padding = vectors(2, TOKENS, HIDDEN), torch.arange(TOKENS) >= torch.tensor(LENGTHS)[:, None]
    halves = run_packed(theirs, x, LENGTHS).unflatten(2, (2, HIDDEN))
    assert_same(ours(x, padding)[~padding], halves.sum(2)[~padding])
