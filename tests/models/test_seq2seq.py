"""What every model that answers a source promises, of either family."""

import math

import pytest
import torch

from nas.architecture import Architecture
from nas.errors import UsageError
from nas.models import Seq2Seq
from nas.models.beam import Beam
from tests.models.parts import (
    CONTEXT,
    VOCABULARY,
    assert_likeliest,
    built,
    counted_flops,
    expected_loss,
    far_from_start,
    log_chances,
    loss_after,
    loss_of,
    real_bytes,
    tokens,
)

LSTM = {"attention": {"kind": "lstm"}, "feed_forward": {"kind": "none"}}
SOFTMAX, LINEAR, ADDITIVE = ({"kind": kind} for kind in ("softmax", "linear", "additive"))
TRANSFORMER = {
    "attention": {**SOFTMAX, "bias": True},
    "feed_forward": {"kind": "gelu", "bias": True},
    "position": "sinusoidal",
    "norm": "layer",
    "residual": "post",
}


def encoder_decoder(encoder: list[dict], decoder: list[dict], **fields: object) -> Architecture:
    return Architecture(family="encoder_decoder", hidden=32, encoder_blocks=encoder, blocks=decoder, **fields)


def recurrent(cross: dict, encoder: int = 1, decoder: int = 1, **fields: object) -> Architecture:
    blocks = [{**LSTM, "cross": cross}, *[LSTM] * (decoder - 1)]
    return Architecture(family="recurrent", hidden=32, encoder_blocks=[LSTM] * encoder, blocks=blocks, **fields)


MODELS = {
    "plain": encoder_decoder([{"attention": SOFTMAX}] * 2, [{"attention": SOFTMAX, "cross": SOFTMAX}] * 2),
    "first Transformer": encoder_decoder([TRANSFORMER] * 2, [{**TRANSFORMER, "cross": {**SOFTMAX, "bias": True}}] * 2),
    "parallel, twice, untied": encoder_decoder(
        [{"attention": LINEAR, "position": "learned"}],
        [
            {"attention": {"kind": "cosine"}, "residual": "parallel", "cross": {"kind": "softmax", "kv_heads": 1}},
            {"attention": {"kind": "none"}, "residual": "parallel", "cross": {"kind": "cosine"}, "position": "learned"},
            {"attention": {"kind": "none"}, "feed_forward": {"kind": "none"}, "cross": SOFTMAX},
        ],
        repeat=2,
        tied=False,
    ),
    "mixed": encoder_decoder(
        [{"attention": {"kind": "none"}, "position": "sinusoidal"}, {"attention": {"kind": "window", "window": 3}}],
        [
            {"attention": {"kind": "window", "window": 3}, "cross": ADDITIVE, "feed_forward": {"kind": "none"}},
            {"attention": {"kind": "lstm"}, "cross": {"kind": "softmax", "qk_norm": True, "gate": True}},
        ],
    ),
    "additive recurrent": recurrent(ADDITIVE),
    "deep softmax recurrent": recurrent({**SOFTMAX, "kv_heads": 2}, encoder=3, decoder=3, tied=False),
    "cosine recurrent": recurrent({"kind": "cosine"}, encoder=2, decoder=2),
}
of_models = pytest.mark.parametrize("architecture", MODELS.values(), ids=MODELS)


def moved(architecture: Architecture) -> Seq2Seq:
    return far_from_start(built(architecture))


def half_padded(length: int) -> torch.Tensor:
    """The second of two sources is shorter."""
    padding = torch.zeros(2, length, dtype=torch.bool)
    padding[1, length - 4 :] = True
    return padding


@of_models
def test_decodes_as_it_reads(architecture):
    model = moved(architecture)
    source, answer = tokens(2, 11), tokens(2, CONTEXT, seed=2)
    for padding in (None, half_padded(11)):
        state = model.new_state(2, CONTEXT)
        model.prefill(source, state, padding)
        steps = [model.decode_step(token, state) for token in answer.T]
        assert state.length == state.context == CONTEXT
        torch.testing.assert_close(torch.stack(steps, 1), model(source, answer, padding), atol=1e-4, rtol=1e-4)


@of_models
def test_padding_of_the_source_changes_nothing(architecture):
    model, answer = moved(architecture), tokens(2, 6, seed=2)
    source, padding = tokens(2, 11), half_padded(11)
    logits = model(source, answer, padding)
    alone = torch.cat((model(source[:1], answer[:1]), model(source[1:, :7], answer[1:])))
    torch.testing.assert_close(logits, alone, atol=1e-4, rtol=1e-4)
    generated = model.generate(source, 6, start=1, stop=2, beams=3, padding_BS=padding)
    alone = torch.cat([model.generate(s, 6, start=1, stop=2, beams=3) for s in (source[:1], source[1:, :7])])
    for row, real in ((0, source[:1]), (1, source[1:, :7])):
        written = torch.stack((generated[row], alone[row]))
        chances = log_chances(model, real.expand(2, -1), written, start=1, stop=2)
        torch.testing.assert_close(chances[0], chances[1], atol=1e-4, rtol=1e-4)


@of_models
def test_the_future_cannot_change_the_past_but_every_source_token_counts(architecture):
    model, source, answer = moved(architecture), tokens(1, 5), tokens(1, 8, seed=2)
    before, changed = model(source, answer), answer.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % VOCABULARY
    after = model(source, changed)
    torch.testing.assert_close(after[:, :5], before[:, :5])
    assert (after[:, 5] - before[:, 5]).abs().max() > 1e-3
    for s in range(5):
        other = source.clone()
        other[0, s] = (other[0, s] + 1) % VOCABULARY
        # Not at the first token: where a recurrent model has no state to ask with, and all else is far from uniform.
        assert (model(other, answer) - before)[0, 1:].abs().max() > 1e-4


@of_models
def test_stated_flops_are_the_counted_ones(architecture):
    model = built(architecture)
    counted = counted_flops(lambda: model(tokens(1, 13), tokens(1, 9)))
    assert model.flops(9, source=13) == counted


@of_models
def test_stated_state_is_the_real_one(architecture):
    model = built(architecture)
    state = model.new_state(3, 12)
    model.prefill(tokens(3, 12), state)
    assert model.state_bytes(3, 12) == real_bytes(state)


@of_models
def test_one_beam_takes_the_likeliest_token_of_a_full_pass(architecture):
    model, source, padding = moved(architecture), tokens(2, 9), half_padded(9)
    generated = model.generate(source, 8, start=3, padding_BS=padding)
    answer = torch.cat((torch.full((2, 1), 3), generated), dim=1)
    assert_likeliest(generated, model(source, answer[:, :-1], padding))
    stop = generated[0, 4].item()
    stopped = model.generate(source, 8, start=3, stop=stop, padding_BS=padding)
    for before, after in zip(generated.tolist(), stopped.tolist(), strict=True):
        end = before.index(stop) if stop in before else 8
        assert after == before[:end] + [stop] * (8 - end)


@of_models
@torch.inference_mode()
def test_several_beams_search_with_its_state(architecture):
    """Against the same search without any state: each step reads the whole text again."""
    model, source = far_from_start(built(architecture), by=0.5), tokens(8, 9)
    model.vocabulary.head.weight.mul_(0.1)  # several tokens are likely

    def read_again(token_N: torch.Tensor, texts: list[torch.Tensor]) -> torch.Tensor:
        texts[1] = torch.cat((texts[1], token_N[:, None]), dim=1)
        return model(texts[0], texts[1])[:, -1]

    start = torch.full((8,), 1)
    found = model.generate(source, 7, start=1, stop=4, beams=4, length_penalty=1.0)
    expected = Beam(4, 1.0).search(read_again, [source, source[:, :0]], start, 7, stop=4)
    chances = [log_chances(model, source, text, start=1, stop=4) for text in (found, expected)]
    torch.testing.assert_close(*chances, atol=1e-4, rtol=1e-4)
    greedy = model.generate(source, 7, start=1, stop=4)
    assert (chances[0] > log_chances(model, source, greedy, start=1, stop=4) + 1e-2).any()


@of_models
def test_starts_out_knowing_nothing(architecture):
    for hidden in (32, 128):
        model = built(architecture.model_copy(update={"hidden": hidden}), vocabulary=65)
        logits = model(tokens(8, 9), tokens(8, 12, seed=2))
        assert expected_loss(logits) == pytest.approx(math.log(65), abs=0.15)


@pytest.mark.slow
@of_models
def test_learns_to_copy(architecture):
    model = built(architecture, vocabulary=6)
    start = torch.zeros(32, 1, dtype=torch.long)

    def loss(step: int) -> torch.Tensor:
        source = 1 + tokens(32, 4, vocabulary=5, seed=step)
        return loss_of(model(source, torch.cat((start, source[:, :-1]), dim=1)), source)

    # Whoever does not read the source cannot be better than log 5.
    assert loss_after(model, loss, 60) < 0.75 * math.log(5)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@of_models
def test_says_what_it_cannot_do(architecture):
    model, source = built(architecture), tokens(1, 5)
    with pytest.raises(TypeError, match="start"):
        model.generate(source, 5)
    for start, stop in ((-1, None), (VOCABULARY, None), (0, VOCABULARY)):
        with pytest.raises(UsageError, match=rf"(start|stop)=-?\d+ is not a token; tokens are 0 to {VOCABULARY - 1}"):
            model.generate(source, 5, start=start, stop=stop)
    for steps in (-1, CONTEXT + 1):
        with pytest.raises(UsageError, match=f"steps={steps} tokens cannot be generated"):
            model.generate(source, steps, start=0)
    assert model.generate(source, 0, start=0).shape == (1, 0)
    state = model.new_state(1, 2)
    with pytest.raises(UsageError, match=r"holds no source to answer; call prefill\(source, state\) first"):
        model.decode_step(source[:, 0], state)
    model.prefill(source, state)
    for _ in range(2):
        model.decode_step(source[:, 0], state)
    with pytest.raises(UsageError, match="2 tokens seen and 1 more exceed the decode state's context=2"):
        model.decode_step(source[:, 0], state)
    with pytest.raises(UsageError, match=f"{CONTEXT + 1} tokens exceed context={CONTEXT}"):
        model(source, tokens(1, CONTEXT + 1))
    with pytest.raises(UsageError, match=f"must be 1 to {CONTEXT}"):
        model.new_state(1, CONTEXT + 1)
