"""The space: valid combinations only, counted exactly, named so that choices never change under a name."""

import random
from collections import defaultdict

import pytest

from nas.architecture import Architecture
from nas.errors import InvalidStudyFile
from nas.space import RandomChooser, Space, SpaceSettings, difference

SOFTMAX = {"kind": "softmax", "heads": [1, 2, 4], "kv_heads": [1, "half", "all"]}
LINEAR = {"kind": "linear", "heads": [1, 4]}
WINDOW = {"kind": "window", "heads": 2, "window": [8, 16]}


def space(*attention: dict, hidden=(32, 64), depth=(1, 2), **more) -> Space:
    return Space(SpaceSettings(depth=list(depth), hidden=list(hidden), attention=attention, **more))


SPACES = {
    "one kind": space(SOFTMAX),
    "three kinds": space(SOFTMAX, LINEAR, WINDOW),
    "heads that fit some sizes only": space({"kind": "softmax", "heads": [1, 2, 3, 4]}, LINEAR, hidden=(32, 36, 64)),
    "mixed": space(LINEAR, WINDOW, mixed=True, depth=(1, 2, 3)),
    "feed-forward": space(LINEAR, feed_forward={"kind": ["swiglu", "gelu"], "ratio": [2, 4]}),
    "the same kind twice, overlapping": space(SOFTMAX, {"kind": "softmax", "heads": [4, 8], "kv_heads": [1, 4]}),
    "a kind that fits one size only": space(LINEAR, {"kind": "cosine", "heads": [3]}, hidden=(32, 36)),
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
    specs = SPACES["one kind"].specs[64]
    assert {(spec.heads, spec.kv_heads) for spec in specs} == {(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4)}


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
