"""The LSTM: the weights of PyTorch's, the padding, the start, and how it is trained."""

import torch

from nas.architecture import Architecture, Block
from nas.attention import build
from nas.kinds import Lstm
from nas.models import Decoder
from nas.settings.study_settings import TrainSettings
from nas.training import optimiser

D = 12


def test_equals_that_of_pytorch():
    torch.manual_seed(0)
    layer, original = build(Lstm(), D, 20), torch.nn.LSTM(D, D, batch_first=True)
    with torch.no_grad():
        layer.input.weight.copy_(original.weight_ih_l0)
        layer.recurrent.weight.copy_(original.weight_hh_l0)
        layer.input.bias.copy_(original.bias_ih_l0 + original.bias_hh_l0 - layer.start_4D)
        x = torch.randn(3, 20, D)
        y, (last, cell) = original(x)
        torch.testing.assert_close(layer(x), y)
        state = layer.new_state(3, 20)
        torch.testing.assert_close(layer.step(x[:, :19], state), y[:, :19])
        torch.testing.assert_close(layer.step(x[:, 19:], state), y[:, 19:])
    torch.testing.assert_close(state.output_BD, last[0])
    torch.testing.assert_close(state.cell_BD, cell[0])


def test_ignored_tokens_are_as_good_as_absent():
    torch.manual_seed(0)
    layer, x = build(Lstm(), D, 9), torch.randn(1, 9, D)
    padding = torch.tensor([[True, True, False, False, True, False, False, True, False]])
    torch.testing.assert_close(layer(x, padding_BT=padding)[~padding], layer(x[~padding][None])[0])


def test_a_new_model_remembers():
    model = Decoder(Architecture(hidden=D, blocks=(Block(attention=Lstm()),)), vocabulary=5, context=8)
    layer = model.stack.blocks[0].attention
    expected = torch.tensor([0.0, 1, 0, 0]).repeat_interleave(D)
    torch.testing.assert_close(layer.input.bias + layer.start_4D, expected)


def test_each_gate_has_matrices_of_its_own():
    muon, adamw = optimiser.build(build(Lstm(), D, 8), TrainSettings()).rules
    assert {shape: len(group) for shape, group in muon.groups.items()} == {(D, D): 8}
    assert list(adamw.named) == ["input.bias"]


def test_gradients_do_not_need_the_training_mode():
    layer = build(Lstm(), D, 8).eval()
    layer(torch.randn(1, 5, D)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in layer.parameters())
