"""What an architecture costs, added up from its blocks: the same as what the built model counts."""

import random
from pathlib import Path

import pytest

from nas import models
from nas.architecture import Architecture
from nas.measure.cheap import KIB
from nas.measure.costs import Costs
from nas.measure.generation import Generator
from nas.models import TOKENS, Head
from nas.results import METRICS
from nas.settings import study_file
from nas.space.architecture_space import Space

FILES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.toml"))
VOCABULARY, CONTEXT, BATCH = 65, 64, 2

SURROUNDINGS = {
    "repeat": ["space.repeat=[1,2,3]"],
    "tied": ["space.tied=[true,false]"],
    "residual": ['space.residual=["sequential","parallel","post"]'],
    "norm": ['space.norm=["rms","layer"]', 'space.residual=["sequential","post"]'],
    "position": ['space.position=["none","learned","sinusoidal","rope","alibi"]'],
    "feed-forward": ['space.feed_forward={kind=["gelu","swiglu","none"],ratio=[2,4],bias=[false,true]}'],
}
"""Few choices at a time, so that one shell is met again and again around other blocks."""


def counted(architecture: Architecture, head: Head = TOKENS) -> dict[str, float]:
    """By the model itself."""
    model = models.build(architecture, VOCABULARY, CONTEXT, head)
    told = {
        "params": float(sum(p.numel() for p in model.parameters() if p.requires_grad)),
        "flops_per_token": model.flops(CONTEXT) / CONTEXT,
    }
    if isinstance(model, Generator):
        told["decode_state_kib"] = model.state_bytes(BATCH, CONTEXT) / KIB
    return told


def check(space: Space, samples: int, head: Head = TOKENS) -> None:
    generator, costs = random.Random(0), Costs(VOCABULARY, CONTEXT, BATCH, head)
    for _ in range(samples):
        architecture = space.sample(generator)
        assert costs.metrics(architecture) == counted(architecture, head), architecture.canonical()


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_costs_of_every_shipped_space_are_those_of_the_built_models(file):
    check(Space(study_file.load(file).spaces()), 10)


@pytest.mark.parametrize("head", [Head("classes", ("a", "b", "c")), Head("span")])
def test_costs_with_another_head_are_those_of_the_built_models(head):
    check(Space(study_file.load(FILES[0].parent / "sentiment.toml").spaces()), 10, head)


def test_costs_of_models_that_copy_are_those_of_the_built_ones():
    check(Space(study_file.load(FILES[0].parent / "summaries.toml").spaces()), 10, Head("copy"))


@pytest.mark.parametrize("what", SURROUNDINGS)
def test_costs_are_those_of_the_built_models_whatever_stands_around_a_block(what):
    overrides = [*SURROUNDINGS[what], "space.mixed=true", "space.hidden=[32]"]
    check(Space(study_file.load(FILES[0].parent / "tiny_lm.toml", overrides).spaces()), 20)


def test_the_model_that_is_seen_first_makes_no_difference():
    space = Space(study_file.load(FILES[0].parent / "attention_zoo.toml").spaces())
    generator = random.Random(1)
    several = [space.sample(generator) for _ in range(10)]
    forward, backward = Costs(VOCABULARY, CONTEXT), Costs(VOCABULARY, CONTEXT)
    told = [forward.metrics(architecture) for architecture in several]
    assert told == [backward.metrics(architecture) for architecture in reversed(several)][::-1]


def test_the_metrics_are_named_as_measured_ones_and_exact():
    space = Space(study_file.load(FILES[0].parent / "tiny_lm.toml").spaces())
    names = Costs(VOCABULARY, CONTEXT).metrics(space.sample(random.Random(0)))
    assert set(names) == {"params", "flops_per_token", "decode_state_kib"}
    assert all(METRICS[name].cheap and METRICS[name].exact for name in names)


def test_the_state_is_that_of_all_sequences_side_by_side():
    architecture = Space(study_file.load(FILES[0].parent / "tiny_lm.toml").spaces()).sample(random.Random(0))
    one, four = (Costs(VOCABULARY, CONTEXT, batch).metrics(architecture) for batch in (1, 4))
    assert four["decode_state_kib"] == 4 * one["decode_state_kib"]
    assert four["flops_per_token"] == one["flops_per_token"]
