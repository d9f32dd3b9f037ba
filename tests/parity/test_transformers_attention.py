"""Single attention layers against those of Hugging Face's transformers.

Shapes: B batch, T tokens, D hidden, H heads, E head size, S tokens attended to.
"""

import importlib
import math
from collections.abc import Callable, Sequence
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from nas.attention import Attention, build
from nas.attention.gated_linear import TEMPERATURE
from nas.kinds import Cosine, Differential, GatedDelta, GatedLinear, Latent, Retention, Softmax, Window
from tests.parity.copying import (
    assert_same,
    copy,
    copy_attention,
    decoded,
    hidden_from,
    in_halves,
    matrix,
    padding_of,
    stirred,
    vectors,
)

pytestmark = pytest.mark.slow
HIDDEN, HEADS, SIZE, CONTEXT = 32, 4, 12, 80
TOKENS, LONG = 23, 71
"""The second is more than two of the chunks in which kinds with a state are trained, here and there."""

Layer = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""(x, what is added to scores) → outputs, and weights if there are any."""


def modeling(name: str) -> ModuleType:
    """Loads the file of a model, which takes too long for every process that collects these tests."""
    return importlib.import_module(f"transformers.models.{name}.modeling_{name}")


def scores_mask(length: int, padding: Tensor | None = None, causal: bool = True) -> Tensor:
    """(B or 1, 1, T, T) to add to scores."""
    visible = torch.ones(1, 1, length, length, dtype=torch.bool)
    if causal:
        visible = visible.tril()
    return hidden_from(visible if padding is None else visible & ~padding[:, None, None])


@torch.no_grad()
def assert_same_layer(ours: Attention, theirs: Layer, splits: Sequence[int] = (9, 1, 1, 12)) -> None:
    """Outputs and weights, with padding on either side and without, and in steps of these lengths."""
    x = vectors(2, sum(splits), ours.hidden)
    y, weights = theirs(x, scores_mask(x.size(1), causal=ours.causal))
    assert_same(ours(x), y)
    if weights is not None:
        torch.testing.assert_close(ours.weights(x), weights, atol=1e-4, rtol=0)
    if ours.causal:
        assert_same(decoded(ours, x, splits), y)
    padding = padding_of(*x.shape[:2])
    y, _ = theirs(x, scores_mask(x.size(1), padding, ours.causal))
    assert_same(ours(x, padding_BT=padding)[~padding], y[~padding])


def turning(theirs: nn.Module, rotary: nn.Module) -> Layer:
    """A layer that is told by how much to turn."""

    def run(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        positions = rotary(x, torch.arange(x.size(1))[None])
        y, weights = theirs(hidden_states=x, position_embeddings=positions, attention_mask=mask)
        return y, weights

    return run


def rope(**fields: float) -> dict:
    return {"rope_type": "default", "rope_theta": 10_000.0, **fields}


@torch.no_grad()
def test_qwen3():
    """`softmax` with `qk_norm`, two heads of keys and values and heads of 12: Qwen3's, its two gains ours."""
    config = transformers.Qwen3Config(
        hidden_size=HIDDEN,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        head_dim=SIZE,
        rope_parameters=rope(),
        attn_implementation="eager",
    )
    theirs = stirred(modeling("qwen3").Qwen3Attention(config, 0))
    ours = build(Softmax(heads=HEADS, kv_heads=2, head_size=SIZE, qk_norm=True), HIDDEN, CONTEXT)
    copy_attention(ours, theirs.q_proj, theirs.k_proj, theirs.v_proj, theirs.o_proj)
    ours.gain_2E.copy_(torch.stack((theirs.q_norm.weight, theirs.k_norm.weight)))
    assert_same_layer(ours, turning(theirs, modeling("qwen3").Qwen3RotaryEmbedding(config)))


QWEN3_NEXT = {
    "hidden_size": HIDDEN,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "head_dim": SIZE,
    "num_hidden_layers": 1,
    "linear_num_key_heads": HEADS,
    "linear_num_value_heads": HEADS,
    "linear_key_head_dim": SIZE,
    "linear_value_head_dim": SIZE,
    "rope_parameters": rope(partial_rotary_factor=1.0),
    "attn_implementation": "eager",
}


@torch.no_grad()
def test_qwen3_next_gated_softmax():
    """`softmax` with `gate` and `qk_norm`: Qwen3-Next's, whose matrix has query and gate of a head side by side.

    Its gains are what is added to 1; all of a head is turned.
    """
    config = transformers.Qwen3NextConfig(**QWEN3_NEXT)
    theirs = stirred(modeling("qwen3_next").Qwen3NextAttention(config, 0))
    ours = build(Softmax(heads=HEADS, kv_heads=2, head_size=SIZE, qk_norm=True, gate=True), HIDDEN, CONTEXT)
    queries, gate = theirs.q_proj.weight.unflatten(0, (HEADS, 2, SIZE)).unbind(1)
    copy_attention(ours, matrix(queries.flatten(0, 1)), theirs.k_proj, theirs.v_proj, theirs.o_proj)
    copy(ours.gate, matrix(gate.flatten(0, 1)))
    ours.gain_2E.copy_(1 + torch.stack((theirs.q_norm.weight, theirs.k_norm.weight)))
    assert_same_layer(ours, turning(theirs, modeling("qwen3_next").Qwen3NextRotaryEmbedding(config)))


@torch.no_grad()
@pytest.mark.parametrize("heads", [4, 6])
def test_bloom(heads):
    """`softmax` with biases and ALiBi: BLOOM's slopes, for 2^k heads and others; the heads' own q, k, v put in rows."""
    hidden = heads * SIZE
    theirs = stirred(modeling("bloom").BloomAttention(transformers.BloomConfig(hidden_size=hidden, n_head=heads), 0))
    ours = build(Softmax(heads=heads, bias=True), hidden, CONTEXT, position="alibi")
    weight, bias = theirs.query_key_value.weight, theirs.query_key_value.bias
    rows = [part.unflatten(0, (heads, 3, SIZE)).transpose(0, 1).flatten(0, 2) for part in (weight, bias)]
    copy(ours.qkv, matrix(*rows))
    copy(ours.out, theirs.dense)

    def run(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        alibi = modeling("bloom").build_alibi_tensor(torch.ones(x.shape[:2]), heads, x.dtype)
        return theirs(x, torch.zeros_like(x), alibi, mask)

    assert_same_layer(ours, run)


DEEPSEEK = {
    "V2": ("deepseek_v2", "DeepseekV2", {}, True),
    "V3 in pairs": ("deepseek_v3", "DeepseekV3", {"rope_interleave": True}, True),
    "V3 in halves": ("deepseek_v3", "DeepseekV3", {"rope_interleave": False}, False),
}


@torch.no_grad()
@pytest.mark.parametrize(("file", "name", "fields", "pairs"), DEEPSEEK.values(), ids=DEEPSEEK)
def test_deepseek(file, name, fields, pairs):
    """`latent`: DeepSeek's without compressed queries. Rows that are turned in pairs are put in our order.

    Keys and values of a head come from neighbouring rows there, here from two blocks; steps go by the absorbed form.
    """
    latent, turned = 20, 6
    config = getattr(transformers, f"{name}Config")(
        hidden_size=HIDDEN,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        q_lora_rank=None,
        kv_lora_rank=latent,
        qk_rope_head_dim=turned,
        qk_nope_head_dim=SIZE,
        v_head_dim=SIZE,
        max_position_embeddings=CONTEXT,
        rope_parameters=rope(),
        attn_implementation="eager",
        **fields,
    )
    theirs = stirred(getattr(modeling(file), f"{name}Attention")(config, 0))
    ours = build(Latent(heads=HEADS, head_size=SIZE, latent=latent, rope_size=turned), HIDDEN, CONTEXT)
    ordered = in_halves if pairs else lambda weight: weight
    queries, turned_queries = theirs.q_proj.weight.unflatten(0, (HEADS, -1)).split((SIZE, turned), dim=1)
    down, turned_key = theirs.kv_a_proj_with_mqa.weight.split((latent, turned))
    queries = torch.cat((queries, ordered(turned_queries)), dim=1).flatten(0, 1)
    copy(ours.down, *(matrix(part) for part in (queries, down, ordered(turned_key))))
    ours.gain_L.copy_(theirs.kv_a_layernorm.weight)
    copy(ours.up, matrix(theirs.kv_b_proj.weight.unflatten(0, (HEADS, 2, SIZE)).transpose(0, 1).flatten(0, 2)))
    copy(ours.out, theirs.o_proj)
    assert_same_layer(ours, turning(theirs, getattr(modeling(file), f"{name}RotaryEmbedding")(config)))


@torch.no_grad()
@pytest.mark.parametrize("depth", [0, 3])
def test_diffllama(depth):
    """`differential`: DiffLlama's, whose heads h and h + H are the halves of our head h, in queries, keys and values.

    `subtracted` is their λ at that depth, and our gain 1, as theirs is left out.
    """
    config = transformers.DiffLlamaConfig(
        hidden_size=HIDDEN,
        num_attention_heads=2 * HEADS,
        num_key_value_heads=2 * HEADS,
        head_dim=SIZE // 2,
        rms_norm_eps=1e-5,
        rope_parameters=rope(),
        attn_implementation="eager",
    )
    theirs = stirred(modeling("diffllama").DiffLlamaAttention(config, depth))
    ours = build(Differential(heads=HEADS, head_size=SIZE, subtracted=theirs.lambda_init), HIDDEN, CONTEXT)
    assert theirs.lambda_init == pytest.approx(0.8 - 0.6 * math.exp(-0.3 * depth))
    by_head = (
        matrix(part.weight.unflatten(0, (2, HEADS, SIZE // 2)).transpose(0, 1).flatten(0, 2))
        for part in (theirs.q_proj, theirs.k_proj, theirs.v_proj)
    )
    copy_attention(ours, *by_head, theirs.o_proj)
    vectors_22J = (theirs.lambda_q1, theirs.lambda_k1, theirs.lambda_q2, theirs.lambda_k2)
    ours.vectors_22J.copy_(torch.stack(vectors_22J).unflatten(0, (2, 2)))
    run = turning(theirs, modeling("diffllama").DiffLlamaRotaryEmbedding(config))
    # What they give as weights are the two maps of a head by themselves.
    assert_same_layer(ours, lambda x, mask: (run(x, mask)[0], None))


@torch.no_grad()
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])
def test_swin_v2(causal):
    """`cosine`: Swin Transformer V2's over a window of one row, its bias for positions the same everywhere.

    Their logit scale is our temperature. They have no matrix behind the heads, so that ours is the identity.
    """
    hidden = HEADS * SIZE
    theirs = stirred(
        modeling("swinv2").Swinv2SelfAttention(transformers.Swinv2Config(qkv_bias=False), hidden, HEADS, (1, TOKENS))
    )
    nn.init.zeros_(theirs.continuous_position_bias_mlp[2].weight)
    theirs.logit_scale.copy_(torch.linspace(0.5, 3, HEADS)[:, None, None])
    ours = build(Cosine(heads=HEADS), hidden, CONTEXT, causal, position="none")
    copy(ours.qkv, theirs.query, theirs.key, theirs.value)
    nn.init.eye_(ours.out.weight)
    ours.log_temperature_H.copy_(theirs.logit_scale.flatten())

    def run(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        # They add the mask twice, one of each sequence; twice the lowest number would be −∞.
        y, weights = theirs(x, (mask / 4).expand(len(x), -1, -1, -1)[:, 0], output_attentions=True)
        return y, weights

    assert_same_layer(ours, run)


@torch.no_grad()
@pytest.mark.parametrize("global_tokens", [0, 3])
def test_longformer(global_tokens):
    """`window` both ways, with and without global tokens: Longformer's, 3 tokens on each side, that is window=4.

    Its second set of matrices, for global tokens, is the first. It has biases, here 0, and no matrix behind the heads,
    so that ours is the identity. It wants whole windows: odd lengths are padded on the right.
    """
    hidden, length, sides = HEADS * SIZE, 96, 3
    theirs = modeling("longformer").LongformerSelfAttention(
        transformers.LongformerConfig(hidden_size=hidden, num_attention_heads=HEADS, attention_window=[2 * sides]), 0
    )
    stirred(theirs)
    for name in ("query", "key", "value"):
        part = getattr(theirs, name)
        nn.init.zeros_(part.bias)
        getattr(theirs, f"{name}_global").load_state_dict(part.state_dict())
    spec = Window(heads=HEADS, window=sides + 1, global_tokens=global_tokens)
    ours = build(spec, hidden, length, causal=False, position="none")
    copy(ours.qkv, *(matrix(part.weight) for part in (theirs.query, theirs.key, theirs.value)))
    nn.init.eye_(ours.out.weight)
    x, padding = vectors(2, length, hidden), torch.arange(length) >= torch.tensor([[95], [71]])
    mask = torch.zeros(2, length).masked_fill(padding, -10_000)
    mask[:, :global_tokens] = 10_000
    y = theirs(x, mask, padding, mask > 0, bool(global_tokens))[0]
    assert_same(ours(x, padding_BT=padding)[~padding], y[~padding])


@torch.no_grad()
def test_qwen3_next_gated_delta():
    """`gated_delta`, the whole layer: Qwen3-Next's, with its short convolution, gates and norm.

    There each head has its query, key, value and gate, and its β and α, in neighbouring rows; here each kind of row
    stands together. Its kernel is ours on its side. Its chunks are of 64 tokens, ours of 32. Padding stands on the
    left, as ignored tokens let its state decay, which is 0 there.
    """
    theirs = stirred(modeling("qwen3_next").Qwen3NextGatedDeltaNet(transformers.Qwen3NextConfig(**QWEN3_NEXT), 0))
    # From states that forget within a token to some that remember for a hundred.
    theirs.A_log.copy_(torch.linspace(-5, 1, HEADS))
    ours = build(GatedDelta(heads=HEADS, head_size=SIZE, conv=4), HIDDEN, CONTEXT)
    *qkv, gate = theirs.in_proj_qkvz.weight.unflatten(0, (HEADS, 4, SIZE)).unbind(1)
    copy(ours.qkv, *(matrix(rows.flatten(0, 1)) for rows in qkv))
    copy(ours.gate, matrix(gate.flatten(0, 1)))
    copy(ours.rates, matrix(theirs.in_proj_ba.weight.unflatten(0, (HEADS, 2)).transpose(0, 1).flatten(0, 1)))
    ours.kernel_nW.copy_(theirs.conv1d.weight[:, 0].T)
    ours.log_decay_H.copy_(theirs.A_log)
    ours.step_bias_H.copy_(theirs.dt_bias)
    ours.gain_E.copy_(theirs.norm.weight)
    copy(ours.out, theirs.out_proj)
    x, padding = vectors(2, LONG, HIDDEN), torch.arange(LONG) < torch.tensor([[0], [5]])
    y = theirs(x)
    assert_same(ours(x), y)
    assert_same(decoded(ours, x, (40, 1, 1, 29)), y)
    y = theirs(x, attention_mask=(~padding).float())
    assert_same(ours(x, padding_BT=padding)[~padding], y[~padding])


@torch.no_grad()
@pytest.mark.parametrize("kind", [Retention, GatedLinear])
def test_minimax_lightning(kind):
    """`retention`, and `gated_linear` whose gates are still: the sums of MiniMax's lightning attention, at our rates.

    Only the sums: its norm runs over all heads and its gate has another form, so that ours are put around them, and
    its activation is left out. A gate of `gated_linear` is held at a rate of retention by its bias.
    """
    config = transformers.MiniMaxConfig(
        hidden_size=HIDDEN,
        num_attention_heads=HEADS,
        head_dim=SIZE,
        num_hidden_layers=2,
        block_size=16,
        hidden_act="linear",
    )
    theirs = stirred(modeling("minimax").MiniMaxLightningAttention(config, 0))
    rate_H = -build(Retention(heads=HEADS), HIDDEN, CONTEXT).log_decay_11H1.flatten()
    theirs.slope_rate.copy_(rate_H[:, None, None])
    for name, held in zip(
        ("query_decay", "key_decay", "diagonal_decay"), theirs.decay_factors(theirs.slope_rate), strict=True
    ):
        getattr(theirs, name).copy_(held)
    theirs.norm, theirs.out_proj = nn.Identity(), nn.Identity()
    nn.init.zeros_(theirs.output_gate.weight)  # a half, everywhere
    ours = stirred(build(kind(heads=HEADS, head_size=SIZE), HIDDEN, CONTEXT, position="none"))
    copy(ours.qkv, matrix(theirs.qkv_proj.weight.unflatten(0, (HEADS, 3, SIZE)).transpose(0, 1).flatten(0, 2)))
    if kind is GatedLinear:
        nn.init.zeros_(ours.forget_out.weight)
        # sigmoid(b)^(1/16) = exp(−rate)
        held_H = (-TEMPERATURE * rate_H).exp()
        ours.forget_out.bias.copy_(held_H.logit().repeat_interleave(SIZE))
    x, padding = vectors(2, LONG, HIDDEN), torch.arange(LONG) < torch.tensor([[0], [5]])

    def run(mask: Tensor | None) -> Tensor:
        sums_BTHE = (2 * theirs(x, None, mask)[0]).unflatten(2, (HEADS, SIZE)) / math.sqrt(SIZE)
        normed_BTHE = F.rms_norm(sums_BTHE, (SIZE,), eps=1e-6)
        return ours.out(F.silu(ours.gate(x)) * normed_BTHE.flatten(2))

    assert_same(ours(x), run(None))
    assert_same(decoded(ours, x, (40, 1, 1, 29)), run(None))
    assert_same(ours(x, padding_BT=padding)[~padding], run((~padding).float())[~padding])
