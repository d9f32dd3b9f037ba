"""Architectures are values: stable ids, round trips, and rejection with path, value and fix."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nas.architecture import ATTENTION_SPECS, Architecture, Block, FeedForward, Softmax, Window
from nas.errors import InvalidArchitecture


def decoder(hidden: int = 64, **attention: object) -> Architecture:
    return Architecture(hidden=hidden, blocks=({"attention": {"kind": "softmax", **attention}},) * 2)


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    heads = draw(st.sampled_from([1, 2, 4, 8]))
    hidden = heads * 2 * draw(st.integers(1, 16))
    blocks = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(sorted(ATTENTION_SPECS)))
        attention = {"kind": kind, "heads": heads}
        if "kv_heads" in ATTENTION_SPECS[kind].model_fields:
            attention["kv_heads"] = draw(st.sampled_from([d for d in (1, 2, 4, 8) if heads % d == 0]))
        if kind == "window":
            attention["window"] = draw(st.integers(1, 64))
        feed_forward = {"kind": draw(st.sampled_from(["swiglu", "gelu"])), "ratio": draw(st.floats(0.5, 8))}
        blocks.append({"attention": attention, "feed_forward": feed_forward})
    return Architecture(hidden=hidden, blocks=blocks)


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
