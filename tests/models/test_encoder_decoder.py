"""The encoder-decoder's own: its positions, its kinds, its maps, and that a source is read once.

What it shares with recurrent models is in test_seq2seq.py.
"""

import pytest
import torch

from nas.architecture import CROSS_KINDS, Architecture
from nas.attention import MODULES, Memory
from nas.models import EncoderDecoder
from tests.models.parts import built, counted_flops, far_from_start, tokens

NAMES = {kind.model_fields["kind"].default: kind for kind in MODULES}
ENCODING = [name for name, kind in NAMES.items() if "bidirectional" in kind.forms]
DECODING = [name for name, kind in NAMES.items() if "causal" in kind.forms]


def model_of(encoder: dict, decoder: dict, cross: str = "softmax", **fields: object) -> EncoderDecoder:
    blocks = [{"attention": {"kind": "softmax"}, "cross": {"kind": cross}, **decoder}] * 2
    encoder_blocks = [{"attention": {"kind": "softmax"}, **encoder}] * 2
    architecture = {"hidden": 32, "blocks": blocks, "encoder_blocks": encoder_blocks, **fields}
    return far_from_start(built(Architecture(family="encoder_decoder", **architecture)))


def assert_decodes_as_it_reads(model: EncoderDecoder) -> None:
    source, answer, padding = tokens(2, 9), tokens(2, 8, seed=2), torch.zeros(2, 9, dtype=torch.bool)
    padding[0, 6:] = True
    state = model.new_state(2, 8)
    model.prefill(source, state, padding)
    steps = torch.stack([model.decode_step(token, state) for token in answer.T], dim=1)
    torch.testing.assert_close(steps, model(source, answer, padding), atol=1e-4, rtol=1e-4)
    assert model.flops(8, source=9) == counted_flops(lambda: model(source[:1], answer[:1]))


@pytest.mark.parametrize("kind", ENCODING)
def test_every_kind_encodes(kind):
    assert_decodes_as_it_reads(model_of({"attention": {"kind": kind}}, {}))


@pytest.mark.parametrize("kind", DECODING)
def test_every_kind_decodes(kind):
    assert_decodes_as_it_reads(model_of({}, {"attention": {"kind": kind}}))


@pytest.mark.parametrize("repeat", [1, 3])
@pytest.mark.parametrize("kind", CROSS_KINDS)
def test_every_kind_attends_to_the_source(kind, repeat):
    assert_decodes_as_it_reads(model_of({}, {}, cross=kind, repeat=repeat))


@pytest.mark.parametrize("position", ["rope", "alibi", "learned", "sinusoidal", "none"])
def test_every_position_on_either_side(position):
    assert_decodes_as_it_reads(model_of({"position": position}, {}))
    assert_decodes_as_it_reads(model_of({}, {"position": position}))


def test_the_source_is_read_once():
    model, read = model_of({}, {}), []
    model.encoder.register_forward_hook(lambda *_: read.append(1))
    model.generate(tokens(2, 9), 8, start=0, beams=3)
    assert len(read) == 1


@pytest.mark.parametrize("cross", CROSS_KINDS)
@pytest.mark.parametrize("residual", ["sequential", "parallel", "post"])
@torch.inference_mode()
def test_attention_maps_are_the_weights_of_what_each_attention_reads(residual, cross):
    model = model_of({"residual": residual}, {"residual": residual}, cross, repeat=2)
    source, answer, padding = tokens(2, 9), tokens(2, 7, seed=2), torch.zeros(2, 9, dtype=torch.bool)
    padding[0, 6:] = True
    read: dict[torch.nn.Module, torch.Tensor] = {}

    def note(module: torch.nn.Module, args: tuple) -> None:
        read.setdefault(module, args[0])

    def note_recalls_of(cross: torch.nn.Module) -> None:
        recall = cross.recall

        def noted(x: torch.Tensor, memory: Memory) -> torch.Tensor:
            note(cross, (x,))
            return recall(x, memory)

        cross.recall = noted

    layers = (*model.encoder.blocks, *model.decoder.blocks)
    hooks = [layer.attention.register_forward_pre_hook(note) for layer in layers]
    for layer in model.decoder.blocks:
        note_recalls_of(layer.cross)
    model(source, answer, padding)
    for hook in hooks:
        hook.remove()
    maps, encoded = model.attention_maps(source, answer, padding), model.encode(source, padding)
    assert [m.shape for m in maps.encoder] == [(2, 4, 9, 9)] * 2
    assert [m.shape for m in maps.decoder] == [(2, 4, 7, 7)] * 2
    assert [m.shape for m in maps.cross] == [(2, 4, 7, 9)] * 2
    for layer, weights in zip(model.encoder.blocks, maps.encoder, strict=True):
        torch.testing.assert_close(weights, layer.attention.weights(read[layer.attention], padding_BT=padding))
    for layer, own, crossed in zip(model.decoder.blocks, maps.decoder, maps.cross, strict=True):
        torch.testing.assert_close(own, layer.attention.weights(read[layer.attention]))
        torch.testing.assert_close(crossed, layer.cross.weights(read[layer.cross], encoded, padding))
        assert crossed[0, :, :, 6:].abs().max() == 0


def test_one_vocabulary_serves_source_and_answer():
    names = {name for name, _ in model_of({}, {}).named_parameters() if name.startswith("vocabulary")}
    assert names == {"vocabulary.embedding.weight"}
    names = {name for name, _ in model_of({}, {}, tied=False).named_parameters() if name.startswith("vocabulary")}
    assert names == {"vocabulary.embedding.weight", "vocabulary.head.weight"}
