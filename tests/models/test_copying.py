"""The model that copies: by its equation, step by step, and in beams; it repeats words that it never learned."""

import itertools
import math

import pytest
import torch

from nas.architecture import Architecture
from nas.errors import UsageError
from nas.models import Head, build
from nas.settings.study_settings import TrainSettings
from nas.training import optimiser
from tests.models.parts import CONTEXT, VOCABULARY, counted_flops, far_from_start, log_chances, tokens

BLOCK = {"attention": {"kind": "softmax", "heads": 2}}
ARCHITECTURE = Architecture(
    family="encoder_decoder",
    hidden=32,
    encoder_blocks=[BLOCK],
    blocks=[{**BLOCK, "cross": {"kind": "softmax", "heads": 2}}] * 2,
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return far_from_start(build(ARCHITECTURE, VOCABULARY, CONTEXT, Head("copy")).eval())


def test_the_probabilities_are_those_of_the_equation(model):
    source, answer = tokens(2, 7), tokens(2, 5, seed=1)
    padding = torch.arange(7).expand(2, 7) >= torch.tensor([[7], [4]])
    with torch.no_grad():
        found = model(source, answer, padding).exp()
        encoded = model.encode(source, padding)
        h = model.decoder(model.vocabulary(answer), memories=model.decoder.remember(encoded, padding))
        torch.testing.assert_close(found.sum(dim=-1), torch.ones(2, 5))
        for b, t in itertools.product(range(2), range(5)):
            gate = torch.sigmoid(model.gate(h[b, t])).item()
            expected = gate * model.vocabulary.logits(h)[b, t].softmax(dim=-1)
            real = [s for s in range(7) if not padding[b, s]]
            asked = model.asking(h[b, t])
            scores = torch.stack([asked @ model.offering(encoded[b, s]) / math.sqrt(32) for s in real])
            for s, share in zip(real, scores.softmax(dim=0), strict=True):
                expected[source[b, s]] += (1 - gate) * share
            torch.testing.assert_close(found[b, t], expected, rtol=1e-4, atol=1e-6)


def test_steps_give_what_the_full_pass_gives(model):
    source, answer = tokens(3, 9), tokens(3, 6, seed=1)
    padding = torch.arange(9).expand(3, 9) >= torch.tensor([[9], [5], [1]])
    with torch.inference_mode():
        state = model.new_state(3, 6)
        model.prefill(source, state, padding)
        steps = torch.stack([model.decode_step(answer[:, t], state) for t in range(6)], dim=1)
        torch.testing.assert_close(steps, model(source, answer, padding), rtol=1e-4, atol=1e-5)


def test_padding_and_company_change_nothing(model):
    source, answer = tokens(1, 6), tokens(1, 4, seed=1)
    longer, padding = torch.cat((source, tokens(1, 3, seed=2)), dim=1), (torch.arange(9) >= 6)[None]
    with torch.inference_mode():
        torch.testing.assert_close(model(longer, answer, padding), model(source, answer), rtol=1e-4, atol=1e-5)


def test_beams_write_what_they_write_alone(model):
    source = tokens(3, 8)
    together = model.generate(source, 6, 1, 2, beams=3)
    alone = torch.cat([model.generate(row[None], 6, 1, 2, beams=3) for row in source])
    chances = [log_chances(model, source, text, start=1, stop=2) for text in (together, alone)]
    torch.testing.assert_close(*chances, atol=1e-4, rtol=1e-4)


def test_stated_costs_are_the_counted_ones(model):
    source, answer = tokens(1, 9), tokens(1, 6, seed=1)
    assert model.flops(6, 9) == counted_flops(lambda: model(source, answer))
    state = model.new_state(2, CONTEXT)
    model.prefill(tokens(2, CONTEXT), state)
    copied = state.memories[-1]
    own = copied.keys_BSD.nbytes + copied.tokens_BS.nbytes
    plain = build(ARCHITECTURE, VOCABULARY, CONTEXT)
    assert model.state_bytes(2, CONTEXT) == plain.state_bytes(2, CONTEXT) + own


@pytest.mark.slow
@pytest.mark.soak
def test_it_repeats_words_that_it_never_learned():
    """Trained to repeat words of one part of the vocabulary, and asked to repeat those of another."""
    placed = {**BLOCK, "position": "learned"}
    blocks = {"encoder_blocks": [placed], "blocks": [{**placed, "cross": {"kind": "softmax", "heads": 2}}]}
    architecture, right = Architecture(family="encoder_decoder", hidden=32, **blocks), {}
    for head in (Head("copy"), Head("tokens")):
        torch.manual_seed(0)
        model, generator = build(architecture, 300, 8, head), torch.Generator().manual_seed(0)
        steps = optimiser.build(model, TrainSettings(steps=401, batch=64), None)
        for step in range(401):
            low, high = (2, 260) if step < 400 else (260, 300)
            source = torch.randint(low, high, (64, 6), generator=generator)
            written = torch.cat((torch.ones(64, 1, dtype=torch.long), source[:, :-1]), dim=1)
            logits = model(source, written)
            if step == 400:
                right[head.kind] = (logits.argmax(dim=-1) == source).float().mean().item()
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), source.flatten()).backward()
            steps.step()
            steps.zero_grad()
    assert right["copy"] > 0.5
    assert right["tokens"] < 0.1


def test_other_families_do_not_copy():
    with pytest.raises(UsageError, match="does not copy"):
        build(Architecture(hidden=32, blocks=[BLOCK]), head=Head("copy"))
