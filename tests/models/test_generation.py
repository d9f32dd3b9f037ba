"""Generation: greedy, sampled, and beyond the context."""

import pytest
import torch

from nas.architecture import Architecture, Block
from nas.errors import UsageError
from nas.kinds import Linear, Softmax, Window
from nas.models import Decoder, build
from tests.models.parts import assert_likeliest


@pytest.fixture
def model() -> Decoder:
    torch.manual_seed(0)
    blocks = (Block(attention=Softmax()), Block(attention=Window(window=3)), Block(attention=Linear()))
    model = build(Architecture(hidden=32, blocks=blocks), vocabulary=23, context=12)
    with torch.no_grad():
        # Far from the start of training, where each token predicts itself.
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return model


PROMPTS = torch.tensor([[3, 1, 4], [1, 5, 9]])


def test_greedy_takes_the_likeliest_token_of_a_full_pass(model):
    generated = model.generate(PROMPTS, steps=9)
    assert torch.equal(generated[:, :3], PROMPTS)
    assert len(generated[0, 3:].unique()) > 2
    for t in range(3, 12):
        assert_likeliest(generated[:, t], model(generated[:, :t])[:, -1])


def test_reads_the_last_half_again_when_the_context_is_full(model):
    generated = model.generate(PROMPTS, steps=17)
    for t in range(3, 20):
        # 12 tokens fit; the 13th is chosen from all of them, then each 6 more from the half that was read again.
        start = 0 if t <= 12 else 7 if t <= 19 else 13
        assert_likeliest(generated[:, t], model(generated[:, start:t])[:, -1])


def test_a_prompt_beyond_the_context_is_read_from_its_end(model):
    prompt = torch.arange(20)[None] % 23
    assert_likeliest(model.generate(prompt, 1)[:, 20], model(prompt[:, -12:])[:, -1])


def test_sampling_repeats_with_the_generator_alone(model):
    def draw(seed: int) -> torch.Tensor:
        return model.generate(PROMPTS, 9, temperature=1.0, generator=torch.Generator().manual_seed(seed))

    first = draw(0)
    torch.manual_seed(123)
    assert torch.equal(draw(0), first)
    assert not torch.equal(draw(1), first)


def test_top_k_leaves_the_k_likeliest(model):
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(
        model.generate(PROMPTS, 9, temperature=2.0, top_k=1, generator=generator), model.generate(PROMPTS, 9)
    )
    allowed = model(PROMPTS)[:, -1].topk(3).indices
    drawn = {
        tuple(model.generate(PROMPTS, 1, temperature=5.0, top_k=3, generator=generator)[:, -1].tolist())
        for _ in range(60)
    }
    assert {first for first, _ in drawn} == set(allowed[0].tolist())
    assert {second for _, second in drawn} == set(allowed[1].tolist())


def test_temperature_sharpens_the_draw(model):
    chances = torch.softmax(model(PROMPTS)[:, -1] / 0.7, dim=-1)[0]
    generator = torch.Generator().manual_seed(0)
    many = PROMPTS[:1].expand(4000, -1)
    counts = model.generate(many, 1, temperature=0.7, generator=generator)[:, -1].bincount(minlength=23) / 4000
    torch.testing.assert_close(counts, chances, atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "steps=-1"),
        ({"steps": 1, "temperature": -0.5}, "temperature=-0.5 must be 0"),
        ({"steps": 1, "temperature": 1.0, "top_k": 0}, "top_k=0 must be at least 1"),
    ],
)
def test_says_what_it_cannot_do(model, options, message):
    with pytest.raises(UsageError, match=message):
        model.generate(PROMPTS, **options)


def test_needs_a_token_to_start_from(model):
    with pytest.raises(UsageError, match="give a token to start from"):
        model.generate(PROMPTS[:, :0], 5)
    assert torch.equal(model.generate(PROMPTS, 0), PROMPTS)
