"""Whole models against those of Hugging Face's transformers, tiny and with random weights: logits, tokens, maps."""

import pytest
import torch
import transformers
from torch import nn

from nas.architecture import Architecture, FeedForward
from nas.models import Decoder, Encoder, EncoderDecoder, build
from nas.models.layers import TransformerBlock
from nas.models.stack import Stack
from tests.parity.copying import (
    assert_same,
    copy,
    copy_attention,
    copy_vocabulary,
    matrix,
    padding_of,
    stirred,
    tokens,
)

pytestmark = pytest.mark.slow
HIDDEN, HEADS, LAYERS, VOCABULARY, CONTEXT = 48, 4, 2, 37, 64
TOKENS = 53
WIDE = {"kind": "gelu", "bias": True}
"""A feed-forward of four times the hidden size."""
EAGER = {"attn_implementation": "eager", "bos_token_id": None, "eos_token_id": None}
"""The plain form, which gives its attention weights; and texts that do not end."""


def built(block: dict, family: str = "decoder", **model_wide: object) -> nn.Module:
    torch.manual_seed(0)
    architecture = Architecture.model_validate(
        {"family": family, "hidden": HIDDEN, "blocks": [block] * LAYERS, "tied": False, **model_wide}
    )
    return build(architecture, VOCABULARY, CONTEXT)


def softmax(**fields: object) -> dict:
    return {"kind": "softmax", "heads": HEADS, **fields}


def assert_same_logits(ours: Decoder, theirs: nn.Module) -> None:
    read = tokens(2, TOKENS, VOCABULARY)
    with torch.no_grad():
        assert_same(ours(read), theirs(read).logits)


def assert_same_maps(ours: list[torch.Tensor], theirs: tuple[torch.Tensor, ...], real: torch.Tensor) -> None:
    """Of the queries that are real, (B, T)."""
    assert len(ours) == len(theirs) == LAYERS
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.transpose(1, 2)[real], other.transpose(1, 2)[real], atol=1e-4, rtol=0)


def assert_same_text(ours: Decoder, theirs: nn.Module, steps: int = 15) -> None:
    """Greedy, from a prompt of odd length, with the cache of either."""
    prompt = tokens(3, 11, VOCABULARY)
    written = theirs.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=steps, do_sample=False, pad_token_id=0
    )
    assert len(set(written[:, prompt.size(1) :].flatten().tolist())) > 5
    assert ours.generate(prompt, steps).tolist() == written.tolist()


def copy_norms(ours: TransformerBlock, *theirs: nn.Module) -> None:
    for mine, other in zip(ours.norms, theirs, strict=True):
        copy(mine, other)


@pytest.fixture(scope="module")
def gpt2() -> tuple[Decoder, nn.Module]:
    theirs = stirred(
        transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=VOCABULARY,
                n_positions=CONTEXT,
                n_embd=HIDDEN,
                n_layer=LAYERS,
                n_head=HEADS,
                activation_function="gelu",
                tie_word_embeddings=False,
                **EAGER,
            )
        )
    )
    ours = built({"attention": softmax(bias=True), "feed_forward": WIDE, "position": "learned", "norm": "layer"})
    copy_vocabulary(ours.vocabulary, theirs.transformer.wte, theirs.lm_head)
    ours.stack.positions["0"].places_CD.data.copy_(theirs.transformer.wpe.weight)
    for mine, other in zip(ours.stack.layers(), theirs.transformer.h, strict=True):
        # Their matrices stand on their side.
        qkv, out, up, down = (
            matrix(part.weight.T, part.bias)
            for part in (other.attn.c_attn, other.attn.c_proj, other.mlp.c_fc, other.mlp.c_proj)
        )
        copy(mine.attention.qkv, qkv)
        copy(mine.attention.out, out)
        copy(mine.feed_forward.up, up)
        copy(mine.feed_forward.down, down)
        copy_norms(mine, other.ln_1, other.ln_2)
    copy(ours.stack.norm, theirs.transformer.ln_f)
    return ours, theirs


def test_gpt2(gpt2):
    """Pre-norm blocks of biased softmax and gelu, layer norms and learned positions: GPT-2, untied."""
    assert_same_logits(*gpt2)


def test_gpt2_attends_to_the_same(gpt2):
    """`attention_maps` are the attention weights that GPT-2 gives."""
    ours, theirs = gpt2
    read = tokens(2, TOKENS, VOCABULARY)
    maps = theirs(read, output_attentions=True).attentions
    assert_same_maps(ours.attention_maps(read), maps, torch.ones_like(read, dtype=torch.bool))


def test_gpt2_writes_the_same(gpt2):
    """`generate` is greedy search of GPT-2, both with their caches."""
    assert_same_text(*gpt2)


def llama_like(config: type, model: type, attention: dict, **fields: object) -> tuple[Decoder, nn.Module]:
    """RoPE, grouped keys and values, SwiGLU, root-mean-square norms whose gains the matrices behind them take over."""
    theirs = stirred(
        model(
            config(
                vocab_size=VOCABULARY,
                hidden_size=HIDDEN,
                intermediate_size=FeedForward().inner(HIDDEN),
                num_hidden_layers=LAYERS,
                num_attention_heads=HEADS,
                num_key_value_heads=2,
                max_position_embeddings=CONTEXT,
                rms_norm_eps=1e-6,
                **fields,
                **EAGER,
            )
        )
    )
    ours = built({"attention": attention, "position": "rope"})
    copy_vocabulary(ours.vocabulary, theirs.model.embed_tokens, theirs.lm_head, gain=theirs.model.norm.weight)
    for mine, other in zip(ours.stack.layers(), theirs.model.layers, strict=True):
        attn, mlp = other.self_attn, other.mlp
        gain = other.input_layernorm.weight
        copy_attention(mine.attention, attn.q_proj, attn.k_proj, attn.v_proj, attn.o_proj, gain)
        copy(mine.feed_forward.gate_up, mlp.gate_proj, mlp.up_proj, gain=other.post_attention_layernorm.weight)
        copy(mine.feed_forward.down, mlp.down_proj)
    return ours, theirs


@pytest.fixture(scope="module")
def llama() -> tuple[Decoder, nn.Module]:
    return llama_like(transformers.LlamaConfig, transformers.LlamaForCausalLM, softmax(kv_heads=2))


def test_llama(llama):
    """Blocks as they are by default, with two heads of keys and values: Llama, gains folded into matrices."""
    assert_same_logits(*llama)


def test_llama_writes_the_same(llama):
    """`generate` is greedy search of Llama, both with their caches."""
    assert_same_text(*llama)


@pytest.fixture(scope="module")
def mistral() -> tuple[Decoder, nn.Module]:
    window = {"kind": "window", "heads": HEADS, "kv_heads": 2, "window": 5}
    return llama_like(transformers.MistralConfig, transformers.MistralForCausalLM, window, sliding_window=5)


def test_mistral(mistral):
    """`window` with two heads of keys and values: Mistral's sliding window, over several windows."""
    assert_same_logits(*mistral)


def test_mistral_writes_the_same(mistral):
    """The ring of keys and values is Mistral's sliding cache, behind a prompt longer than the window."""
    assert_same_text(*mistral)


def test_phi():
    """residual="parallel", with one layer norm for both branches: Phi, all of each head turned, its head's bias 0."""
    theirs = stirred(
        transformers.PhiForCausalLM(
            transformers.PhiConfig(
                vocab_size=VOCABULARY,
                hidden_size=HIDDEN,
                intermediate_size=4 * HIDDEN,
                num_hidden_layers=LAYERS,
                num_attention_heads=HEADS,
                max_position_embeddings=CONTEXT,
                hidden_act="gelu",
                rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0},
                **EAGER,
            )
        )
    )
    nn.init.zeros_(theirs.lm_head.bias)
    ours = built({"attention": softmax(bias=True), "feed_forward": WIDE, "norm": "layer", "residual": "parallel"})
    copy_vocabulary(ours.vocabulary, theirs.model.embed_tokens, theirs.lm_head)
    for mine, other in zip(ours.stack.layers(), theirs.model.layers, strict=True):
        attn = other.self_attn
        copy_attention(mine.attention, attn.q_proj, attn.k_proj, attn.v_proj, attn.dense)
        copy(mine.feed_forward.up, other.mlp.fc1)
        copy(mine.feed_forward.down, other.mlp.fc2)
        copy_norms(mine, other.input_layernorm)
    copy(ours.stack.norm, theirs.model.final_layernorm)
    assert_same_logits(ours, theirs)


POST = {"attention": softmax(bias=True), "feed_forward": WIDE, "norm": "layer", "residual": "post"}
BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 4 * HIDDEN,
    "max_position_embeddings": CONTEXT,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "pad_token_id": 0,
    **EAGER,
}
"""Of BERT and ALBERT; ε as ours, theirs is 1e-12 by default."""


@torch.no_grad()
def copy_ends_of_bert(ours: Encoder, embeddings: nn.Module, dense: nn.Module, norm: nn.Module, head: nn.Module) -> None:
    """Embeddings and the head for masked tokens. All tokens are of type 0, whose vector the positions take over."""
    copy_vocabulary(ours.vocabulary, embeddings.word_embeddings, head)
    places = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
    ours.stack.positions["0"].places_CD.copy_(places)
    copy(ours.stack.entry, embeddings.LayerNorm)
    copy(ours.transform, dense)
    copy(ours.norm, norm)
    ours.bias_V.copy_(head.bias)


def assert_same_encoder(ours: Encoder, theirs: nn.Module) -> None:
    """With padding on either side, and without; logits and maps."""
    read, padding = tokens(2, TOKENS, VOCABULARY), padding_of(2, TOKENS)
    with torch.no_grad():
        assert_same(ours(read), theirs(read).logits)
        answer = theirs(read, attention_mask=(~padding).long(), output_attentions=True)
        assert_same(ours(read, padding)[~padding], answer.logits[~padding])
    # Ours are those of the first pass.
    assert_same_maps(ours.attention_maps(read, padding), answer.attentions[:LAYERS], ~padding)


def test_bert():
    """Post-norm blocks that see both ways, and the head for masked tokens: BERT's, with padding on either side."""
    theirs = stirred(transformers.BertForMaskedLM(transformers.BertConfig(**BERT)))
    ours = built({**POST, "position": "learned"}, family="encoder")
    head = theirs.cls.predictions
    copy_ends_of_bert(ours, theirs.bert.embeddings, head.transform.dense, head.transform.LayerNorm, head.decoder)
    for mine, other in zip(ours.stack.layers(), theirs.bert.encoder.layer, strict=True):
        attn = other.attention
        copy_attention(mine.attention, attn.self.query, attn.self.key, attn.self.value, attn.output.dense)
        copy(mine.feed_forward.up, other.intermediate.dense)
        copy(mine.feed_forward.down, other.output.dense)
        copy_norms(mine, attn.output.LayerNorm, other.output.LayerNorm)
    assert_same_encoder(ours, theirs)


def test_albert():
    """repeat=3: ALBERT passes its group of layers three times. Its embeddings, as wide as its layers, go in as is."""
    theirs = stirred(
        transformers.AlbertForMaskedLM(
            transformers.AlbertConfig(
                **BERT | {"num_hidden_layers": 3}, embedding_size=HIDDEN, num_hidden_groups=1, inner_group_num=LAYERS
            )
        )
    )
    nn.init.eye_(theirs.albert.encoder.embedding_hidden_mapping_in.weight)
    nn.init.zeros_(theirs.albert.encoder.embedding_hidden_mapping_in.bias)
    ours = built({**POST, "position": "learned"}, family="encoder", repeat=3)
    head = theirs.predictions
    copy_ends_of_bert(ours, theirs.albert.embeddings, head.dense, head.LayerNorm, head.decoder)
    for mine, other in zip(
        ours.stack.layers(), theirs.albert.encoder.albert_layer_groups[0].albert_layers, strict=True
    ):
        attn = other.attention
        copy_attention(mine.attention, attn.query, attn.key, attn.value, attn.dense)
        copy(mine.feed_forward.up, other.ffn)
        copy(mine.feed_forward.down, other.ffn_output)
        copy_norms(mine, attn.LayerNorm, other.full_layer_layer_norm)
    assert_same_encoder(ours, theirs)


PAD, START, STOP = 1, 2, 33
"""The last is one with which some answers end, and others do not."""


def encoder_decoder(config: type, model: type, block: dict) -> tuple[EncoderDecoder, nn.Module]:
    """All but what stands around the layers. One matrix of theirs is the embedding of both texts, and the head."""
    theirs = stirred(
        model(
            config(
                vocab_size=VOCABULARY,
                max_position_embeddings=CONTEXT,
                d_model=HIDDEN,
                **{f"{side}_layers": LAYERS for side in ("encoder", "decoder")},
                **{f"{side}_ffn_dim": 4 * HIDDEN for side in ("encoder", "decoder")},
                **{f"{side}_attention_heads": HEADS for side in ("encoder", "decoder")},
                activation_function="gelu",
                pad_token_id=PAD,
                decoder_start_token_id=START,
                forced_eos_token_id=None,
                **EAGER | {"eos_token_id": STOP},
            )
        )
    )
    answering = {**block, "cross": softmax(bias=True)}
    ours = built(answering, family="encoder_decoder", encoder_blocks=[block] * LAYERS)
    copy_vocabulary(ours.vocabulary, theirs.model.shared, theirs.lm_head)
    for mine, other in ((ours.encoder, theirs.model.encoder), (ours.decoder, theirs.model.decoder)):
        copy_bart_layers(mine, other.layers)
    return ours, theirs


def copy_bart_layers(ours: Stack, theirs: nn.ModuleList) -> None:
    for mine, other in zip(ours.layers(), theirs, strict=True):
        attentions, norms = [(mine.attention, other.self_attn)], [other.self_attn_layer_norm]
        if mine.cross is not None:
            attentions.append((mine.cross, other.encoder_attn))
            norms.append(other.encoder_attn_layer_norm)
        for attention, attn in attentions:
            copy_attention(attention, attn.q_proj, attn.k_proj, attn.v_proj, attn.out_proj)
        copy(mine.feed_forward.up, other.fc1)
        copy(mine.feed_forward.down, other.fc2)
        copy_norms(mine, *norms, other.final_layer_norm)


def assert_same_answer_logits(ours: EncoderDecoder, theirs: nn.Module) -> None:
    """With padding of the source on either side, and without; logits and the attention to the source."""
    source, answer, padding = tokens(2, TOKENS, VOCABULARY), tokens(2, 9, VOCABULARY), padding_of(2, TOKENS)
    with torch.no_grad():
        assert_same(ours(source, answer), theirs(source, decoder_input_ids=answer).logits)
        padded = theirs(source, attention_mask=(~padding).long(), decoder_input_ids=answer, output_attentions=True)
        assert_same(ours(source, answer, padding), padded.logits)
    maps, every = ours.attention_maps(source, answer, padding), torch.ones_like(answer, dtype=torch.bool)
    assert_same_maps(maps.encoder, padded.encoder_attentions, ~padding)
    assert_same_maps(maps.decoder, padded.decoder_attentions, every)
    assert_same_maps(maps.cross, padded.cross_attentions, every)


@pytest.fixture(scope="module")
def bart() -> tuple[EncoderDecoder, nn.Module]:
    ours, theirs = encoder_decoder(
        transformers.BartConfig, transformers.BartForConditionalGeneration, {**POST, "position": "learned"}
    )
    for mine, other in ((ours.encoder, theirs.model.encoder), (ours.decoder, theirs.model.decoder)):
        # Their first two places belong to no token.
        mine.positions["0"].places_CD.data.copy_(other.embed_positions.weight[2:])
        copy(mine.entry, other.layernorm_embedding)
    return ours, theirs


def test_bart(bart):
    """Post-norm blocks with attention to a padded source, learned positions: BART."""
    assert_same_answer_logits(*bart)


@pytest.mark.parametrize("beams", [1, 2, 5])
def test_bart_answers_the_same(bart, beams):
    """Greedy search and beam search, which ends with as many finished as there are beams; no length penalty."""
    ours, theirs = bart
    source, padding = tokens(8, 23, VOCABULARY), padding_of(8, 23)
    written = theirs.generate(
        source,
        attention_mask=(~padding).long(),
        num_beams=beams,
        max_new_tokens=12,
        do_sample=False,
        **({"early_stopping": True, "length_penalty": 0.0} if beams > 1 else {}),
    )[:, 1:]
    answers = ours.generate(source, 12, START, STOP, beams, padding, length_penalty=0.0)
    written = nn.functional.pad(written, (0, 12 - written.size(1)), value=PAD)
    # Behind the end they pad, we repeat it.
    ended = (written == STOP).cumsum(dim=1) - (written == STOP).long() > 0
    assert ended.any(dim=1).unique().numel() == 2  # some end, some do not
    assert answers.tolist() == written.masked_fill(ended, STOP).tolist()


def test_pegasus():
    """Pre-norm blocks with attention to a padded source, sinusoidal positions: PEGASUS."""
    block = {**POST, "residual": "sequential", "position": "sinusoidal"}
    ours, theirs = encoder_decoder(transformers.PegasusConfig, transformers.PegasusForConditionalGeneration, block)
    for mine, other in ((ours.encoder, theirs.model.encoder), (ours.decoder, theirs.model.decoder)):
        copy(mine.norm, other.layer_norm)
    assert_same_answer_logits(ours, theirs)
