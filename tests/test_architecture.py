"""Architectures are values: stable ids, round trips, and rejection with path, value and fix."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nas.architecture import Architecture, Block, FeedForward
from nas.errors import InvalidArchitecture
from nas.kinds import ATTENTION_SPECS, Softmax, Window, having


def decoder(hidden: int = 64, **attention: object) -> Architecture:
    return Architecture(hidden=hidden, blocks=({"attention": {"kind": "softmax", **attention}},) * 2)


@st.composite
def blocks(draw: st.DrawFn, heads: int) -> dict[str, object]:
    kind = draw(st.sampled_from(having("causal")))
    fields = ATTENTION_SPECS[kind].model_fields
    attention = {"kind": kind} | ({"heads": heads} if "heads" in fields else {})
    if "kv_heads" in fields:
        attention["kv_heads"] = draw(st.sampled_from([d for d in (1, 2, 4, 8) if heads % d == 0]))
    if kind == "window":
        attention["window"] = draw(st.integers(1, 64))
    feed_forward = {"kind": draw(st.sampled_from(["swiglu", "gelu", "relu2"])), "ratio": draw(st.floats(0.5, 8))}
    block = {"attention": attention, "feed_forward": feed_forward, "norm": draw(st.sampled_from(["rms", "layer"]))}
    return block | {"position": draw(st.sampled_from(ATTENTION_SPECS[kind].positions))}


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    heads = draw(st.sampled_from([1, 2, 4, 8]))
    hidden = heads * 4 * draw(st.integers(1, 8))
    tied, repeat = draw(st.booleans()), draw(st.integers(1, 3))
    stack = draw(st.lists(blocks(heads), min_size=1, max_size=4))
    return Architecture(hidden=hidden, blocks=stack, tied=tied, repeat=repeat)


@given(architectures())
def test_json_round_trips(architecture):
    for text in (architecture.model_dump_json(), json.dumps(architecture.canonical())):
        again = Architecture.model_validate_json(text)
        assert again == architecture
        assert again.id == architecture.id


@given(architectures(), architectures())
def test_ids_are_equal_just_when_architectures_are(a, b):
    assert (a.id == b.id) == (a == b)


def test_the_id_is_twelve_hex_digits_of_the_canonical_json_and_never_moves():
    assert decoder(heads=4).id == "e7f5307a4902"


def test_defaults_are_left_out_of_the_canonical_form():
    block = {"attention": {"kind": "softmax"}}
    assert decoder(heads=4, kv_heads=4).canonical() == {"hidden": 64, "blocks": [block, block]}
    assert decoder(heads=4, kv_heads=1).canonical()["blocks"][0]["attention"] == {"kind": "softmax", "kv_heads": 1}
    assert decoder(heads=2, kv_heads=2).canonical()["blocks"][0]["attention"] == {"kind": "softmax", "heads": 2}


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ({"heads": 8, "kv_heads": 3}, "blocks[0].attention.kv_heads=3 must divide heads=8; use one of 1, 2, 4, 8"),
        ({"heads": 3}, "blocks[0].attention.heads=3 must divide hidden=64; use one of 1, 2, 4, 8, 16, 32, 64"),
        ({"heads": 64}, "heads=64 gives heads of odd size 1"),
        ({"heads": 0}, "blocks[0].attention.heads=0: input should be greater than 0"),
        ({"heads": "x"}, "blocks[0].attention.heads='x': input should be a valid integer"),
        ({"kind": "softmx"}, "blocks[0].attention.kind='softmx' is unknown; did you mean 'softmax'?"),
        ({"kind": "linear", "kv_heads": 2}, "blocks[0].attention.kv_heads: extra inputs are not permitted"),
        ({"kind": "window", "window": 0}, "blocks[0].attention.window=0: input should be greater than 0"),
    ],
)
def test_what_cannot_be_built_is_rejected_with_path_value_and_fix(attention, message):
    with pytest.raises(InvalidArchitecture) as caught:
        decoder(**attention)
    assert message in str(caught.value)


SOFTMAX, LSTM = {"attention": {"kind": "softmax"}}, {"attention": {"kind": "lstm"}, "feed_forward": {"kind": "none"}}
CROSS = {**SOFTMAX, "cross": {"kind": "additive"}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"blocks": [{"attention": {"kind": "linformer"}}]}, "blocks[0].attention.kind='linformer' has no causal form"),
        (
            {"blocks": [{"attention": {"kind": "linear"}, "position": "alibi"}]},
            "blocks[0].attention.kind='linear' takes no position='alibi'; use one of rope, learned, sinusoidal, none",
        ),
        (
            {"blocks": [{"attention": {"kind": "none"}, "feed_forward": {"kind": "none"}}]},
            "blocks[0].attention.kind='none' with feed_forward.kind='none' does nothing; give it one of the two",
        ),
        (
            {"blocks": [{**SOFTMAX, "feed_forward": {"kind": "none"}, "residual": "parallel"}]},
            "blocks[0].residual='parallel' has one branch alone; use 'sequential', which is the same",
        ),
        (
            {"blocks": [{**SOFTMAX, "feed_forward": {"kind": "none", "ratio": 2}}]},
            "blocks[0].feed_forward.kind='none' has neither ratio nor bias; leave them out",
        ),
        ({"blocks": [CROSS]}, "blocks[0].cross='additive' has no source; leave it out"),
        ({"blocks": [SOFTMAX], "encoder_blocks": [SOFTMAX]}, "encoder_blocks do not belong to family='decoder'"),
        ({"blocks": [SOFTMAX], "pooling": "first"}, "pooling='first' does not belong to family='decoder'"),
        (
            {"family": "encoder_decoder", "blocks": [SOFTMAX], "encoder_blocks": [SOFTMAX]},
            "blocks[0].cross is missing; use one of softmax, cosine, additive",
        ),
        ({"family": "encoder_decoder", "blocks": [CROSS]}, "family='encoder_decoder' needs encoder_blocks"),
        (
            {
                "family": "encoder_decoder",
                "blocks": [CROSS | {"cross": {"kind": "window"}}],
                "encoder_blocks": [SOFTMAX],
            },
            "blocks[0].cross.kind='window' is unknown; one of additive, cosine, softmax",
        ),
        (
            {"family": "encoder_decoder", "blocks": [CROSS | {"cross": {"kind": "softmax", "heads": 3}}]}
            | {"encoder_blocks": [SOFTMAX]},
            "blocks[0].cross.heads=3 must divide hidden=64",
        ),
        ({"family": "encoder", "blocks": [{"attention": {"kind": "retention"}}]}, "has no bidirectional form"),
        ({"family": "recurrent", "blocks": [SOFTMAX]}, "blocks[0]: a layer of family='recurrent' is an LSTM"),
        ({"family": "recurrent", "blocks": [LSTM], "repeat": 2}, "repeat=2 does not belong to family='recurrent'"),
        ({"family": "recurrent", "blocks": [LSTM], "encoder_blocks": [LSTM]}, "with cross, one of softmax, cosine"),
    ],
)
def test_what_does_not_belong_together_is_rejected(fields, message):
    with pytest.raises(InvalidArchitecture) as caught:
        Architecture(hidden=64, **fields)
    assert message in str(caught.value)


def test_every_family_has_its_line():
    lines = {
        str(Architecture(hidden=64, **fields))
        for fields in (
            {"family": "recurrent", "blocks": [LSTM] * 2, "tied": False},
            {"family": "encoder", "blocks": [{**SOFTMAX, "norm": "layer", "residual": "post"}], "pooling": "first"},
            {"family": "encoder_decoder", "blocks": [CROSS], "encoder_blocks": [SOFTMAX | {"position": "alibi"}] * 2},
            {"blocks": [{"attention": {"kind": "none"}}], "repeat": 3},
        )
    }
    assert lines == {
        "recurrent hidden 64: 2× lstm, untied",
        "encoder hidden 64: softmax heads=4 swiglu layer-norm post, first token",
        "encoder-decoder hidden 64: 2× softmax heads=4 swiglu alibi"
        " → softmax heads=4 to source: additive heads=4, swiglu",
        "hidden 64: none swiglu, passed 3 times",
    }


def test_an_architecture_needs_a_block():
    with pytest.raises(InvalidArchitecture, match="blocks"):
        Architecture(hidden=64, blocks=())


def test_architectures_are_frozen():
    with pytest.raises(ValidationError):
        decoder().hidden = 32


def test_equal_ratios_cost_about_equal_parameters():
    for hidden in (32, 48, 64, 96, 128):
        swiglu = 3 * hidden * FeedForward(kind="swiglu").inner(hidden)
        gelu = 2 * hidden * FeedForward(kind="gelu").inner(hidden)
        assert swiglu == pytest.approx(gelu, rel=0.1)


def test_a_line_for_tables_groups_equal_blocks():
    blocks = (Block(attention=Softmax(heads=4)),) * 2 + (Block(attention=Window(heads=2, window=8)),)
    text = str(Architecture(hidden=64, blocks=blocks))
    assert text == "hidden 64: 2× softmax heads=4 swiglu + window heads=2 window=8 swiglu"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 500 + "]" * 500, "nested more than 64 deep"),
        ('{"hidden": ' + "[" * 500 + "]" * 500 + "}", "nested more than 64 deep"),
        ("[" * 100_000, "nested more than 64 deep"),
        ('{"hidden": ' + "9" * 5000 + "}", "a whole number of 5,000 digits"),
        ("", "cannot be read as JSON"),
        ("{", "cannot be read as JSON"),
        (b"\xff", "cannot be read as JSON"),
        ('"x"', "architecture='x'"),
        ('{"hidden": NaN, "blocks": []}', "hidden=nan"),
        ('{"hidden": 16, "blocks": "' + "y" * 100_000 + '"}', "blocks='yyy"),
    ],
    ids=["lists", "in a field", "without an end", "digits", "empty", "cut", "bytes", "a text", "NaN", "a long value"],
)
def test_json_that_is_none_or_beyond_all_measure_is_refused_in_one_sentence(text, told):
    with pytest.raises(InvalidArchitecture) as caught:
        Architecture.model_validate_json(text)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_number_that_python_does_not_print_is_refused_in_one_sentence():
    with pytest.raises(InvalidArchitecture, match="hidden=int beyond all bounds"):
        Architecture.model_validate({"hidden": 10**5000, "blocks": []})
