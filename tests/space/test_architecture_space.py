"""The space: valid combinations only, counted exactly, named so that choices never change under a name."""

import random
from collections import defaultdict

import pytest

from nas.architecture import Architecture
from nas.errors import InvalidStudyFile
from nas.space.architecture_space import Space
from nas.space.choosing import RandomChooser
from nas.space.settings import SpaceSettings, difference

SOFTMAX = {"kind": "softmax", "heads": [1, 2, 4], "kv_heads": [1, "half", "all"]}
LINEAR = {"kind": "linear", "heads": [1, 4]}
WINDOW = {"kind": "window", "heads": 2, "window": [8, 16]}


def space(*attention: dict, hidden=(32, 64), depth=(1, 2), **more) -> Space:
    return Space({"decoder": SpaceSettings(depth=list(depth), hidden=list(hidden), attention=attention, **more)})


def settings(*attention: dict, hidden=(32,), depth=(1, 2), **more) -> SpaceSettings:
    return SpaceSettings(depth=list(depth), hidden=list(hidden), attention=attention, **more)


CROSSES = [{"kind": "additive", "heads": [1, 3]}, {"kind": "softmax", "heads": 2}]
LSTMS = {"depth": [1, 2], "hidden": [32, 48]}
SPACES = {
    "one kind": space(SOFTMAX),
    "three kinds": space(SOFTMAX, LINEAR, WINDOW),
    "heads that fit some sizes only": space({"kind": "softmax", "heads": [1, 2, 3, 4]}, LINEAR, hidden=(32, 36, 64)),
    "mixed": space(LINEAR, WINDOW, mixed=True, depth=(1, 2, 3)),
    "feed-forward": space(LINEAR, feed_forward={"kind": ["swiglu", "gelu"], "ratio": [2, 4]}),
    "the same kind twice, overlapping": space(SOFTMAX, {"kind": "softmax", "heads": [4, 8], "kv_heads": [1, 4]}),
    "a kind that fits one size only": space(LINEAR, {"kind": "cosine", "heads": [3]}, hidden=(32, 36)),
    "positions that suit some kinds": space(LINEAR, WINDOW, position=["rope", "alibi", "none"]),
    "everything about a block": space(
        {"kind": "softmax", "heads": 2, "head_size": [8, 16], "qk_norm": [True, False]},
        {"kind": "none"},
        feed_forward={"kind": ["gelu", "none"], "ratio": [2, 4], "bias": [True, False]},
        norm=["rms", "layer"],
        residual=["sequential", "parallel", "post"],
        tied=[True, False],
        repeat=[1, 2],
        hidden=(32,),
    ),
    "encoders": Space({"encoder": settings(LINEAR, {"kind": "linformer", "rank": [4, 8]}, mixed=True)}),
    "two sides": Space(
        {"encoder_decoder": settings(LINEAR, WINDOW, encoder_depth=[1, 2], cross=CROSSES, hidden=(32, 36))}
    ),
    "two sides, each its own, mixed": Space(
        {
            "encoder_decoder": settings(
                {"kind": "linear", "heads": [1, 2]},
                encoder_attention=[WINDOW],
                encoder_depth=1,
                cross=CROSSES[:1],
                mixed=True,
                hidden=(36,),
            )
        }
    ),
    "recurrent": Space({"recurrent": SpaceSettings(**LSTMS, tied=[True, False])}),
    "recurrent with a source": Space({"recurrent": SpaceSettings(**LSTMS, encoder_depth=[1, 2], cross=CROSSES)}),
    "two families": Space({"decoder": settings(LINEAR, SOFTMAX), "recurrent": SpaceSettings(**LSTMS)}),
}


@pytest.mark.parametrize("name", SPACES)
def test_the_size_is_the_number_of_distinct_ids(name):
    every = list(SPACES[name].walk())
    ids = {architecture.id for _, architecture in every}
    assert len(ids) == len(every) == SPACES[name].size()


@pytest.mark.parametrize("name", SPACES)
def test_parameters_and_architectures_are_one_to_one(name):
    for params, architecture in SPACES[name].walk():
        assert SPACES[name].params_of(architecture) == params


@pytest.mark.parametrize("name", SPACES)
def test_the_choices_under_one_name_never_change(name):
    seen = defaultdict(set)

    class Spy(RandomChooser):
        def suggest_categorical(self, name, choices, /):
            seen[name].add(tuple(choices))
            return super().suggest_categorical(name, choices)

    for seed in range(300):
        SPACES[name].suggest(Spy(random.Random(seed)))
    assert all(len(choices) == 1 for choices in seen.values())
    assert all(len(next(iter(choices))) > 1 for choices in seen.values())


def test_what_lies_outside_has_no_parameters():
    inside = SPACES["three kinds"]
    assert inside.params_of(Architecture(hidden=128, blocks=[{"attention": LINEAR | {"heads": 4}}])) is None
    unequal = [{"attention": {"kind": "linear", "heads": 1}}, {"attention": {"kind": "linear", "heads": 4}}]
    assert inside.params_of(Architecture(hidden=64, blocks=unequal)) is None
    assert SPACES["mixed"].params_of(Architecture(hidden=64, blocks=unequal)) is not None


def test_relative_kv_heads_follow_the_heads():
    specs = SPACES["one kind"].families["decoder"].stack.menu.mixers[64]
    assert {(spec.heads, spec.kv_heads) for spec, _ in specs} == {(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4)}


@pytest.mark.parametrize(
    ("entry", "hidden", "message"),
    [
        ({"kind": "softmax", "heads": [4, 5]}, (32, 64), "heads=5 of kind 'softmax' fits no hidden size of [32, 64]"),
        ({"kind": "softmax", "heads": [4]}, (32, 33), "no attention entry fits hidden=33"),
        ({"kind": "softmax", "heads": ["x"]}, (32,), "heads='x': input should be a valid integer"),
        ({"kind": "window", "window": [-1]}, (32,), "window=-1: input should be greater than 0"),
    ],
)
def test_choices_that_fit_nothing_are_errors(entry, hidden, message):
    with pytest.raises(InvalidStudyFile) as caught:
        space(entry, hidden=hidden)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"position": ["alibi"]}, "kind 'linear' takes no position of alibi"),
        ({"encoder_depth": [1]}, "'encoder_depth' does not belong to family 'decoder'"),
        ({"feed_forward": {"kind": "none"}, "residual": "parallel"}, "kind 'linear' fits no choice of feed_forward"),
    ],
)
def test_choices_that_do_not_go_together_are_errors(more, message):
    with pytest.raises(InvalidStudyFile) as caught:
        space(LINEAR, **more)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("family", "keys", "message"),
    [
        ("encoder", {"attention": [{"kind": "retention"}]}, "attention kind 'retention' is not allowed here"),
        ("encoder", {}, "'space.attention' is missing"),
        ("encoder_decoder", {"attention": [LINEAR], "encoder_depth": 1}, "'space.cross' is missing"),
        (
            "encoder_decoder",
            {"attention": [LINEAR], "encoder_depth": 1, "cross": [{"kind": "window"}]},
            "attention kind 'window' is not allowed here",
        ),
        ("recurrent", {"attention": [LINEAR]}, "'attention' does not belong to family 'recurrent'"),
        ("recurrent", {"encoder_depth": 1}, "'space.cross' is missing"),
        ("recurrent", {"cross": CROSSES}, "'space.encoder_depth' is missing"),
    ],
)
def test_each_family_has_its_own_keys(family, keys, message):
    with pytest.raises(InvalidStudyFile) as caught:
        Space({family: SpaceSettings(depth=1, hidden=32, **keys)})
    assert message in str(caught.value)


def test_a_difference_names_each_leaf():
    stored = {
        "space": {"hidden": [64, 128], "depth": [1]},
        "name": "a",
        "objectives": [{"metric": "x"}, {"metric": "y"}],
    }
    now = {"space": {"hidden": [64], "depth": [1], "mixed": True}, "name": "a"}
    now["objectives"] = [{"metric": "x"}, {"metric": "z"}]
    assert difference(stored, now) == [
        ("objectives[1].metric", "y", "z"),
        ("space.hidden", [64, 128], [64]),
        ("space.mixed", None, True),
    ]
    assert difference({"l": [{"a": 1}]}, {"l": []}) == [("l", [{"a": 1}], [])]
