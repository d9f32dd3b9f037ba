"""Beam search, against slow and exhaustive searches; and states whose rows are picked."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.architecture import Architecture, Block
from nas.attention import MODULES
from nas.attention.state import select
from nas.errors import UsageError
from nas.models.beam import Beam
from tests.models.parts import built, far_from_start, tokens

V, STEPS, STOP = 3, 3, 2
Table = torch.Tensor
"""log P(next token | sequence, its last token): (B, V, V). A model whose answers can be scored by hand."""


def table_of(seed: int, batch: int = 2, vocabulary: int = V) -> Table:
    logits = 2 * torch.randn(batch, vocabulary, vocabulary, generator=torch.Generator().manual_seed(seed))
    return torch.log_softmax(logits, dim=-1)


def searched(table: Table, beam: Beam, steps: int = STEPS, stop: int | None = STOP) -> list[list[int]]:
    """The state holds which sequence each row belongs to."""
    state = [torch.arange(len(table))]
    first = torch.zeros(len(table), dtype=torch.long)
    return beam.search(lambda token_N, held: table[held[0], token_N], list(state), first, steps, stop).tolist()


def chance(table_VV: torch.Tensor, text: list[int]) -> float:
    return sum(table_VV[before, token].item() for before, token in zip([0, *text], text, strict=False))


def score(table_VV: torch.Tensor, text: list[int], penalty: float) -> float:
    return chance(table_VV, text) / ((5 + len(text)) / 6) ** penalty


def cut(text: tuple[int, ...], stop: int | None) -> list[int]:
    """Up to the first stop, which belongs to it."""
    return list(text[: text.index(stop) + 1]) if stop in text else list(text)


def filled(text: list[int], steps: int) -> list[int]:
    return text + [STOP] * (steps - len(text))


def slow_search(table_VV: torch.Tensor, beam: Beam, steps: int, stop: int | None) -> list[int]:
    """One sequence, in lists."""
    going, ended = [[]], []
    for _ in range(steps):
        longer = sorted(
            ([*text, token] for text in going for token in range(len(table_VV))),
            key=lambda text: -chance(table_VV, text),
        )
        ended += [text for text in longer[: beam.beams] if text[-1] == stop]
        if len(ended) >= beam.beams:
            going = []
            break
        going = [text for text in longer if text[-1] != stop][: beam.beams]
    return max(ended + going, key=lambda text: score(table_VV, text, beam.length_penalty))


@pytest.mark.parametrize("penalty", [0.0, 0.6, 3.0])
@pytest.mark.parametrize("stop", [None, STOP])
def test_with_enough_beams_it_finds_the_best_of_all_sequences(stop, penalty):
    for seed in range(6):
        table = table_of(seed)
        found = searched(table, Beam(27, penalty), stop=stop)
        for table_VV, text in zip(table, found, strict=True):
            everything = [cut(text, stop) for text in product(range(V), repeat=STEPS)]
            best = max(everything, key=lambda text: score(table_VV, text, penalty))
            assert text == filled(cut(text, stop), STEPS)
            assert score(table_VV, cut(text, stop), penalty) == pytest.approx(score(table_VV, best, penalty), abs=1e-4)


@given(
    seed=st.integers(0, 10**6),
    beams=st.integers(1, 5),
    steps=st.integers(1, 6),
    penalty=st.sampled_from([0.0, 0.6, 1.5]),
    stops=st.booleans(),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_equals_a_slow_search_of_each_sequence_alone(seed, beams, steps, penalty, stops):
    table, stop = table_of(seed, batch=3, vocabulary=4), STOP if stops else None
    beam = Beam(beams, penalty)
    for table_VV, text in zip(table, searched(table, beam, steps, stop), strict=True):
        assert text == filled(cut(text, stop), steps)
        # Texts of the same transitions in another order are equally likely: which is found is up to rounding.
        found, expected = cut(text, stop), slow_search(table_VV, beam, steps, stop)
        assert score(table_VV, found, penalty) == pytest.approx(score(table_VV, expected, penalty), abs=1e-4)


def test_one_beam_takes_the_likeliest_token_each_time():
    table = table_of(3, batch=8, vocabulary=5)
    for table_VV, text in zip(table, searched(table, Beam(1, 0.6), steps=7), strict=True):
        last = 0
        for u, token in enumerate(text):
            assert STOP in text[:u] or table_VV[last, token] >= table_VV[last].max() - 1e-6
            assert STOP not in text[:u] or token == STOP
            last = token


def test_two_beams_find_what_greed_misses():
    # Token 1 is likelier at first, but nothing is certain behind it; behind token 3 all is.
    table = torch.tensor([[[0, 0.55, 0, 0.45], [0.4, 0.3, 0, 0.3], [0, 0, 1, 0], [0, 0, 0, 1]]]).log()
    assert searched(table, Beam(1, 0.0), stop=None)[0][0] == 1
    assert searched(table, Beam(2, 0.0), stop=None)[0] == [3, 3, 3]


def test_what_has_finished_is_kept_and_the_penalty_weighs_its_length():
    # Stopping at once has the chance 0.4; the one way that takes three tokens, 0.6 · 0.6 · 1 = 0.36.
    table = torch.tensor([[[0, 0.6, 0.4, 0], [0.4, 0, 0, 0.6], [0, 0, 1, 0], [0, 0, 1, 0]]]).log()
    assert searched(table, Beam(2, 0.0))[0] == [STOP, STOP, STOP]
    assert searched(table, Beam(2, 3.0))[0] == [1, 3, STOP]


def test_no_steps_give_no_tokens():
    assert searched(table_of(0), Beam(3, 0.6), steps=0) == [[], []]


@pytest.mark.parametrize("kind", [kind for kind in MODULES if "causal" in kind.forms])
@torch.inference_mode()
def test_the_rows_of_every_state_can_be_picked(kind):
    block = Block.model_validate({"attention": kind(), "feed_forward": {"kind": "gelu"}})
    model = far_from_start(built(Architecture(hidden=32, blocks=(block,) * 2)))
    read, rows = tokens(3, 20), torch.tensor([2, 0, 0, 2, 1])
    state = model.new_state(3, 20)
    model.prefill(read[:, :18], state)
    picked = select(state, rows)
    assert picked.length == 18
    for t in (18, 19):
        expected = model.decode_step(read[:, t], state)[rows]
        torch.testing.assert_close(model.decode_step(read[rows, t], picked), expected, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_searches_with_a_decoder_too():
    model = far_from_start(built(Architecture(hidden=16, blocks=({"attention": {"kind": "softmax"}},)), V), 0.5)
    prompt = tokens(2, 4, V)
    state = model.new_state(2, 7)
    model.prefill(prompt[:, :3], state)
    found = Beam(27, 0.0).search(model.decode_step, state, prompt[:, 3], STEPS)
    for b in range(2):
        texts = torch.tensor(list(product(range(V), repeat=STEPS)))
        full = torch.cat((prompt[b].expand(27, 4), texts), dim=1)
        each = torch.log_softmax(model(full), dim=-1)[:, 3:6].gather(2, texts[..., None])
        chances = each.sum((1, 2))
        written = chances[(texts == found[b]).all(1)].squeeze()
        torch.testing.assert_close(written, chances.max(), atol=1e-4, rtol=1e-4)


def test_says_what_it_cannot_do():
    with pytest.raises(UsageError, match="beams=0 must be at least 1"):
        Beam(0, 0.6)
    with pytest.raises(UsageError, match=r"length_penalty=-1\.0 must be 0"):
        Beam(2, -1.0)
