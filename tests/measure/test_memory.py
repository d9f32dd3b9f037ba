"""The storage meter, against bytes counted by hand and against what the kernel says of a process."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.measure import peak_mib
from nas.measure.cheap import peak_training_mib
from nas.measure.memory import weight_bytes

MIB = 2**20
QUARTER = MIB // 16  # fp32 values in a quarter of a MiB


def peak(run, model: nn.Module | None = None) -> float:
    return peak_mib(run, model or nn.Identity())


def ones(mib: float) -> torch.Tensor:
    return torch.ones(int(mib * MIB) // 4)


def test_what_is_alive_at_once_counts_and_what_is_freed_does_not():
    def run() -> None:
        a = ones(1)
        b = a + 1  # 2
        del a  # 1
        c = b * 2  # 2
        d = torch.cat([b, c])  # 4
        del b, c  # 2
        d.exp()  # 4, then 2

    assert peak(run) == 4


def test_intermediate_results_without_a_name_count():
    assert peak(lambda: ((ones(1) + 1) * 2).exp()) == 2


def test_views_cost_nothing():
    def run() -> None:
        a = ones(1).view(-1, 64)
        _ = a.T, a[3:], a.reshape(64, -1), a.unsqueeze(0).expand(5, -1, -1), a.detach()

    assert peak(run) == 1


def test_in_place_operators_cost_nothing():
    assert peak(lambda: ones(1).add_(1).mul_(2).relu_()) == 1


def test_an_out_tensor_that_grows_is_counted_at_its_size():
    def run() -> None:
        out = torch.empty(0)
        torch.add(ones(1), ones(1), out=out)

    assert peak(run) == 3


def test_the_model_counts_once_and_older_tensors_from_their_first_use():
    model = nn.Linear(256, 256, bias=False)  # a quarter of a MiB
    older = [ones(1), ones(1)]
    assert peak(lambda: None, model) == 0.25
    assert peak(lambda: older[0].sum().item(), model) == pytest.approx(1.25, abs=1e-4)


def test_tied_weights_and_buffers_count_once():
    model = nn.Sequential(nn.Embedding(64, 1024), nn.Linear(1024, 64, bias=False))
    model[1].weight = model[0].weight
    model.register_buffer("angles", torch.zeros(QUARTER))
    model.register_buffer("view", model.angles[:10])
    assert weight_bytes(model) / MIB == peak(lambda: None, model) == 0.5


def test_what_autograd_saves_is_alive_until_backward():
    x = ones(1).requires_grad_()

    def run() -> None:
        y = x.exp()  # saved: its own gradient needs it
        z = y.sin()  # saves y, not z
        loss = z.sum()
        del y, z
        before = loss  # x and y: 2 MiB and a few bytes
        before.backward()

    # In backward: x, y, the gradient of z (expanded from one value), of y, and cos(y) on the way there.
    assert 4 <= peak(run) < 4.01


def test_a_training_step_counts_weights_gradients_and_optimiser_state():
    model = nn.Linear(256, 256, bias=False)
    optimiser = torch.optim.Adam(model.parameters(), foreach=False)
    x = torch.zeros(1, 256)

    def step() -> None:
        optimiser.zero_grad()
        model(x).sum().backward()
        optimiser.step()

    # Weights, gradient and two moments; √v and the update's denominator come and go: one more at a time.
    assert 1.25 <= peak_training_mib(model, step) < 1.52


@pytest.mark.slow
def test_the_count_agrees_with_the_resident_size_of_a_process():
    """Thin products of large results: 48 MiB each, up to five of them alive."""
    script = """
import torch
from torch import nn
from nas.measure import peak_mib
torch.set_num_threads(1)
def read(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))
def chain():
    a = torch.ones(3072, 8)
    x = a @ torch.ones(8, 4096)
    y = x @ torch.eye(4096, 8) @ torch.ones(8, 4096)
    z = x + y
    w = torch.cat([x, y])
    return (w.sum() + z.sum()).item()
with torch.inference_mode():
    (torch.ones(64, 8) @ torch.ones(8, 64)).sum().item()
    before = read("VmRSS")
    chain()
    print(read("VmHWM") - before, peak_mib(chain, nn.Identity()))
"""
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    resident, counted = map(float, printed.split())
    assert counted > 240
    assert resident == pytest.approx(counted, rel=0.1)


COMPILER = """
import sys
from pathlib import Path
from nas.measure.memory import peak_mib
from nas.measure.costs import Costs
from nas.settings import study_file
from torch import nn, ones
file = study_file.load({path!r})
Costs(100, 64).metrics(file.baseline_designs()[0])
assert peak_mib(lambda: ones(1).exp(), nn.Linear(2, 2)) > 0
print({"torch._dynamo", "sympy"} & set(sys.modules))
"""


def test_sizes_and_memory_are_known_without_the_compiler_of_torch():
    path = Path(__file__).parents[2] / "search_spaces" / "tiny_lm.toml"
    script = COMPILER.replace("{path!r}", repr(str(path)))
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "set()"
