"""Recurrent models: the language model, and the definition of the one that attends to a source.

What the latter shares with encoder-decoders is in test_seq2seq.py.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from nas.architecture import LSTM_LAYER, Architecture, Block
from nas.errors import UsageError
from nas.kinds import Additive, Cosine, Softmax
from nas.models import RecurrentModel, RecurrentSeq2Seq
from tests.models.parts import (
    CONTEXT,
    VOCABULARY,
    assert_likeliest,
    built,
    counted_flops,
    expected_loss,
    far_from_start,
    loss_after,
    loss_of,
    real_bytes,
    tokens,
)


def language_model(layers: int = 2, hidden: int = 32, tied: bool = True) -> RecurrentModel:
    return built(Architecture(family="recurrent", hidden=hidden, blocks=(LSTM_LAYER,) * layers, tied=tied))


def attending(cross: Softmax | Cosine | Additive, encoder: int = 1, decoder: int = 1) -> RecurrentSeq2Seq:
    blocks = (Block(**{**dict(LSTM_LAYER), "cross": cross}), *(LSTM_LAYER,) * (decoder - 1))
    encoder_blocks = (LSTM_LAYER,) * encoder
    return built(Architecture(family="recurrent", hidden=32, blocks=blocks, encoder_blocks=encoder_blocks))


@pytest.mark.parametrize("tied", [True, False])
def test_is_a_stack_of_lstm_layers_and_nothing_else(tied):
    model = far_from_start(language_model(layers=3, tied=tied))
    definition = nn.LSTM(32, 32, num_layers=3, batch_first=True)
    with torch.no_grad():
        for i, layer in enumerate(model.stack.layers):
            getattr(definition, f"weight_ih_l{i}").copy_(layer.input.weight)
            getattr(definition, f"weight_hh_l{i}").copy_(layer.recurrent.weight)
            getattr(definition, f"bias_ih_l{i}").copy_(layer.input.bias + layer.start_4D)
            getattr(definition, f"bias_hh_l{i}").zero_()
    read = tokens(2, 17)
    x = model.vocabulary.embedding(read)
    x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() if tied else x
    table = (model.vocabulary.embedding if tied else model.vocabulary.head).weight
    torch.testing.assert_close(model(read), 8 * definition(x)[0] @ table.T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layers", [1, 3])
def test_the_language_model_decodes_as_it_reads(layers):
    model, read = far_from_start(language_model(layers)), tokens(2, CONTEXT)
    state = model.new_state(2, CONTEXT)
    parts = [model.prefill(read[:, :10], state)]
    parts += [model.decode_step(read[:, t], state)[:, None] for t in range(10, CONTEXT)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(read), atol=1e-4, rtol=1e-4)
    assert model.flops(CONTEXT) == counted_flops(lambda: model(read[:1]))
    assert model.state_bytes(2, 8) == model.state_bytes(2, CONTEXT) == real_bytes(model.new_state(2, 8))
    assert model.attention_maps(read) == [None] * layers
    with pytest.raises(UsageError, match=f"{CONTEXT} tokens seen and 1 more exceed"):
        model.decode_step(read[:, 0], state)
    with pytest.raises(UsageError, match=f"{CONTEXT + 1} tokens exceed context={CONTEXT}"):
        model(tokens(1, CONTEXT + 1))


def test_the_language_model_generates_beyond_its_context():
    model, prompt = far_from_start(language_model(), by=0.5), tokens(2, 3)
    text = model.generate(prompt, CONTEXT)
    for t in range(3, CONTEXT + 3):
        # A full context is left for its last half, and what comes after.
        start = 0 if t <= CONTEXT else CONTEXT // 2 + 1
        assert_likeliest(text[:, t], model(text[:, start:t])[:, -1])
    with pytest.raises(UsageError, match="give a token to start from"):
        model.generate(prompt[:, :0], 5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_language_model_starts_out_knowing_nothing_and_learns(layers, tied):
    model, read = language_model(layers, tied=tied), tokens(4, 20)
    assert expected_loss(model(read)) == pytest.approx(math.log(VOCABULARY), abs=0.1)
    loss = loss_after(model, lambda _: loss_of(model(read[:, :-1]), read[:, 1:]), 40)
    assert loss < 0.6 * math.log(VOCABULARY)
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def run_lstm(layer: nn.Module, x_TD: Tensor) -> Tensor:
    """One sequence, token by token, from the equations."""
    h = c = torch.zeros(x_TD.size(1))
    outputs = []
    for x in x_TD:
        h, c = lstm_cell(layer, x, h, c)
        outputs.append(h)
    return torch.stack(outputs)


def lstm_cell(layer: nn.Module, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    gates = layer.input.weight @ x + layer.recurrent.weight @ h + layer.input.bias + layer.start_4D
    i, f, g, o = gates.chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def definition(model: RecurrentSeq2Seq, source_S: Tensor, tokens_T: Tensor) -> Tensor:
    """The logits of one answer to one source, (T, V)."""
    encoder, x_SD = model.encoder, model.vocabulary(source_S[None])[0]
    turned_SD = run_lstm(encoder.backwards, x_SD.flip(0)).flip(0)
    m_SD = torch.cat((run_lstm(encoder.onwards, x_SD), turned_SD), dim=1) @ encoder.join.weight.T
    for layer in encoder.upper.layers:
        m_SD = run_lstm(layer, m_SD)
    s = cell = torch.zeros(32)
    outputs, contexts = [], []
    e_TD = model.vocabulary(tokens_T[None])[0]
    for e in e_TD:
        contexts.append(model.cross(s[None, None], m_SD[None])[0, 0])
        s, cell = lstm_cell(model.first, model.read.weight @ torch.cat((e, contexts[-1])), s, cell)
        outputs.append(s)
    h_TD = torch.stack(outputs)
    for layer in model.upper.layers:
        h_TD = run_lstm(layer, h_TD)
    written = torch.tanh(torch.cat((h_TD, torch.stack(contexts), e_TD), dim=1) @ model.write.weight.T)
    return 8 * written @ model.vocabulary.head.weight.T


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cross", [Softmax(), Cosine(kv_heads=2), Additive()], ids=str)
def test_equals_the_definition_and_its_gradients(cross, layers):
    model = far_from_start(attending(cross, encoder=layers, decoder=layers))
    source, answer = tokens(2, 7), tokens(2, 5, seed=2)
    fast = model(source, answer)
    slow = torch.stack([definition(model, source[b], answer[b]) for b in range(2)])
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-4)
    seed = torch.randn_like(slow)
    gradients = [torch.autograd.grad(y, list(model.parameters()), seed, allow_unused=True) for y in (fast, slow)]
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("side", ["left", "right"])
def test_sources_may_be_padded_on_either_side(side):
    model = far_from_start(attending(Softmax(), encoder=2))
    source, answer, other = tokens(2, 7), tokens(2, 5, seed=2), tokens(2, 3, seed=3)
    padded = torch.cat((other, source) if side == "left" else (source, other), dim=1)
    padding = (torch.arange(10) < 3 if side == "left" else torch.arange(10) >= 7).expand(2, 10)
    torch.testing.assert_close(model(padded, answer, padding), model(source, answer), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_attention_maps_are_what_the_first_layer_asks_with():
    model = far_from_start(attending(Softmax(heads=2), encoder=2, decoder=3))
    source, answer, padding = tokens(2, 7), tokens(2, 5, seed=2), torch.zeros(2, 7, dtype=torch.bool)
    padding[1, 4:] = True
    asked, recall = [], model.cross.recall
    model.cross.recall = lambda x, memory: asked.append(x) or recall(x, memory)
    model(source, answer, padding)
    maps = model.attention_maps(source, answer, padding)
    assert (maps.encoder, maps.decoder, maps.cross[1:]) == ([None] * 2, [None] * 3, [None] * 2)
    expected = model.cross.weights(torch.cat(asked[:5], dim=1), model.encode(source, padding), padding)
    assert expected.shape == (2, 2, 5, 7)
    torch.testing.assert_close(maps.cross[0], expected)
