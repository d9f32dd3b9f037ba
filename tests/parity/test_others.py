"""Attention against packages that others wrote for one kind each: performer-pytorch, linformer, local-attention."""

import warnings
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from linformer import LinformerSelfAttention
from local_attention.transformer import LocalMHA

with warnings.catch_warnings():
    # It compares versions of PyTorch by a part of distutils that says of itself that it is deprecated.
    warnings.filterwarnings("ignore", message="distutils Version classes are deprecated", category=DeprecationWarning)
    from performer_pytorch import CrossAttention, SelfAttention, performer_pytorch

from nas.attention import Attention, build
from nas.kinds import Linear, Linformer, Performer, Window
from tests.parity.copying import (
    assert_same,
    copy,
    copy_attention,
    decoded,
    matrix,
    padding_of,
    stirred,
    vectors,
)

pytestmark = pytest.mark.slow
HIDDEN, HEADS, SIZE, CONTEXT = 32, 4, 12, 150
TOKENS = 139
"""More than two of the chunks in which kernel attention is trained, and more than one of theirs, which are 128."""

both_ways = pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])


@pytest.fixture
def _without_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs adds 1e-4 to each feature, and 1e-6 to sums of causal keys; ours next to nothing to either."""
    for name in ("softmax_kernel", "causal_linear_attention_noncuda"):
        monkeypatch.setattr(performer_pytorch, name, partial(getattr(performer_pytorch, name), eps=0.0))


@torch.no_grad()
def performers(causal: bool, kind: type = SelfAttention) -> tuple[Attention, torch.nn.Module]:
    """Keys are not so large that their features, over the largest of all as theirs are, come to nothing."""
    torch.manual_seed(0)
    theirs = kind(HIDDEN, causal=causal, heads=HEADS, dim_head=SIZE, nb_features=20, attn_out_bias=False)
    stirred(theirs, size=1.5)
    ours = build(Performer(heads=HEADS, head_size=SIZE, features=20), HIDDEN, CONTEXT, causal, position="none")
    copy_attention(ours, theirs.to_q, theirs.to_k, theirs.to_v, theirs.to_out)
    ours.directions_FE.copy_(theirs.fast_attention.projection_matrix)
    return ours, theirs


@torch.no_grad()
@pytest.mark.usefixtures("_without_floor")
@both_ways
def test_performer(causal):
    """`performer`: performer-pytorch's self-attention with its random directions, and no floor under its features.

    It divides features of keys by the largest of all, which cancels; ours are left as they are.
    """
    ours, theirs = performers(causal)
    x = vectors(2, TOKENS, HIDDEN)
    assert_same(ours(x), theirs(x))
    if causal:
        assert_same(decoded(ours, x, (70, 1, 1, 67)), theirs(x))


@torch.no_grad()
@pytest.mark.usefixtures("_without_floor")
def test_performer_to_a_source():
    """`performer` to a memory: performer-pytorch's cross-attention."""
    ours, theirs = performers(causal=False, kind=CrossAttention)
    x, memory = vectors(2, 13, HIDDEN), vectors(2, TOKENS, HIDDEN, seed=4)
    assert_same(ours(x, memory), theirs(x, context=memory))


@torch.no_grad()
@both_ways
def test_linear(causal):
    """`linear`: performer-pytorch's sums over the features ELU + 1 of our queries and keys.

    Both add 1e-6, ours to the divisor and theirs to each feature of causal keys, beside sums of the size of 1.
    """
    ours = stirred(build(Linear(heads=HEADS, head_size=SIZE), HIDDEN, CONTEXT, causal, position="none"))
    x = vectors(2, TOKENS, HIDDEN)
    q, k, v = (heads.transpose(1, 2) for heads in ours.qkv(x).unflatten(2, (3, HEADS, SIZE)).unbind(2))
    summed = performer_pytorch.causal_linear_attention_noncuda if causal else performer_pytorch.linear_attention
    y = ours.out(summed(F.elu(q) + 1, F.elu(k) + 1, v).transpose(1, 2).flatten(2))
    assert_same(ours(x), y)
    if causal:
        assert_same(decoded(ours, x, (70, 1, 1, 67)), y)


@torch.no_grad()
@pytest.mark.parametrize("length", [CONTEXT, 93])
def test_linformer(length):
    """`linformer`: the package's self-attention, at the full length and at the first columns; its last bias is 0."""
    theirs = stirred(LinformerSelfAttention(HIDDEN, CONTEXT, k=9, heads=HEADS, dim_head=SIZE), size=0.8)
    torch.nn.init.zeros_(theirs.to_out.bias)
    spec = Linformer(heads=HEADS, head_size=SIZE, rank=9)
    ours = build(spec, HIDDEN, CONTEXT, causal=False, position="none")
    copy_attention(ours, theirs.to_q, theirs.to_k, theirs.to_v, matrix(theirs.to_out.weight))
    ours.key_mix_RC.copy_(theirs.proj_k.T)
    ours.value_mix_RC.copy_(theirs.proj_v.T)
    x = vectors(2, length, HIDDEN)
    assert_same(ours(x), theirs(x))


@torch.no_grad()
@pytest.mark.parametrize(
    ("causal", "position"),
    [(True, "rope"), (True, "none"), (False, "none")],
    ids=["causal, rope", "causal", "both ways"],
)
def test_local_attention(causal, position):
    """`window`: local-attention's, exact to the token. Theirs does not count the token itself, so that ours is 1 more.

    Its rotary positions start anew in each of its windows, which is the same to scores; but it turns queries as the
    last of what they see, which they are not where they see both ways. Without a mask and causality, its last tokens
    would see the zeros that fill up its last window.
    """
    theirs = LocalMHA(
        dim=HIDDEN,
        window_size=6,
        dim_head=SIZE,
        heads=HEADS,
        causal=causal,
        exact_windowsize=True,
        use_rotary_pos_emb=position == "rope",
    )
    stirred(theirs)
    ours = build(Window(heads=HEADS, head_size=SIZE, window=7), HIDDEN, CONTEXT, causal, position)
    copy(ours.qkv, theirs.to_qkv)
    copy(ours.out, theirs.to_out)
    x, padding = vectors(2, TOKENS, HIDDEN), padding_of(2, TOKENS)
    y = theirs(x, mask=torch.ones_like(padding))
    assert_same(ours(x), y)
    assert_same(ours(x, padding_BT=padding)[~padding], theirs(x, mask=~padding)[~padding])
    if causal:
        assert_same(decoded(ours, x, (70, 1, 1, 67)), y)
