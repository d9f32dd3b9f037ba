"""What a surrogate sees of architectures: one row of numbers each, on one scale over the space."""

import random
from pathlib import Path

import numpy as np
import pytest

from nas.architecture import Architecture
from nas.measure.costs import Costs
from nas.running.architecture_features import IMPORTANT, IMPORTANT_COLUMNS, Features
from nas.settings import study_file
from nas.space.architecture_space import Space

FILES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.toml"))


def space_of(name: str, *overrides: str) -> Space:
    return Space(study_file.load(FILES[0].parent / f"{name}.toml", overrides).spaces())


def samples(space: Space, count: int, seed: int = 5) -> list[Architecture]:
    generator = random.Random(seed)
    return [space.sample(generator) for _ in range(count)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_rows_are_finite_of_one_length_and_of_variance_one_over_the_space(file):
    space = Space(study_file.load(file).spaces())
    features = Features(space, None, seed=0)
    rows = np.array([features(architecture) for architecture in samples(space, 300)])
    assert rows.shape == (300, len(features.columns))
    assert np.isfinite(rows).all()
    weights = [IMPORTANT if name in IMPORTANT_COLUMNS else 1.0 for name in features.columns]
    spread = rows.std(axis=0) / weights
    assert np.median(spread) == pytest.approx(1.0, abs=0.1)
    assert (spread > 0).mean() > 0.9


@pytest.mark.parametrize("name", ["tiny_lm", "families"])
def test_different_architectures_of_equal_blocks_have_different_rows(name):
    space = space_of(name)
    features = Features(space, None, seed=0)
    every = [architecture for _, architecture in space.walk()]
    assert len({tuple(features(architecture)) for architecture in every}) == len(every)


def test_no_choice_of_a_block_is_lost():
    choices = (
        'space.feed_forward={kind=["gelu","swiglu"],ratio=[2,4],bias=[false,true]}',
        'space.residual=["sequential","parallel","post"]',
        'space.norm=["rms","layer"]',
        'space.position=["none","learned","rope","alibi"]',
        'space.attention=[{kind="window",heads=2,window=[8,16],global_tokens=[0,1,2]},'
        '{kind="softmax",heads=[1,2],kv_heads=[1,"all"],qk_norm=[false,true]}]',
    )
    space = space_of("tiny_lm", *choices, "space.hidden=[64]", "space.depth=[2]")
    features = Features(space, None, seed=0)
    every = [architecture for _, architecture in space.walk()]
    assert len({tuple(features(architecture)) for architecture in every}) == len(every) > 500


def test_where_a_kind_stands_in_the_stack_can_be_told():
    block = [{"attention": {"kind": kind, "heads": 2}} for kind in ("softmax", "linear")]
    low, high = (Architecture(family="decoder", hidden=48, blocks=blocks) for blocks in (block, block[::-1]))
    features = Features(space_of("attention_zoo"), None, seed=0)
    assert features(low) != features(high)
    assert features(low) == features(low.model_copy())


def test_what_is_the_same_all_over_the_space_is_no_column():
    features = Features(space_of("tiny_lm", "space.hidden=[64]", "space.depth=[2]"), None, seed=0)
    assert {"hidden", "depth", "repeat", "tied", "family=decoder"}.isdisjoint(features.columns)
    assert any(name.endswith(".heads") for name in features.columns)


@pytest.mark.slow
def test_what_can_be_told_without_building_becomes_columns():
    space = space_of("tiny_lm")
    plain, told = Features(space, None, seed=0), Features(space, Costs(65, 64).metrics, seed=0)
    assert set(told.columns) - set(plain.columns) == {"params", "flops_per_token", "decode_state_kib"}
    named = told.named(samples(space, 1)[0])
    assert named["params"] == pytest.approx(np.log(Costs(65, 64).metrics(samples(space, 1)[0])["params"]))


def test_the_scale_depends_on_the_seed_alone():
    space = space_of("attention_zoo")
    architecture = samples(space, 1)[0]
    assert Features(space, None, seed=3)(architecture) == Features(space, None, seed=3)(architecture)


def test_an_architecture_beyond_the_space_still_has_a_row():
    features = Features(space_of("tiny_lm"), None, seed=0)
    beyond = samples(space_of("reverse_spans"), 3)
    assert all(len(features(architecture)) == len(features.columns) for architecture in beyond)
